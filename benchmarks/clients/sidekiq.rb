# frozen_string_literal: true

# Sidekiq, with its defaults but for the logging, and hiredis where that gem is found: what `benchmarks.client` and the other clients are in Python.
#
# `ruby -I CHECKOUT/lib benchmarks/clients/sidekiq.rb` is the process that enqueues, by the line protocol that
# benchmarks/client.py describes. The worker requires this file for the jobs.

require "json"
require "sidekiq"
begin
  require "hiredis-client"
rescue LoadError
  nil # the pure Ruby driver is Sidekiq's default
end

SLICE = 1_000 # jobs a round trip: Sidekiq's default
ANSWERS = "bench:answers"
SECONDS_TO_ANSWER = 60
PAUSES = (0.02..0.06) # seconds between probes; random, so that no poller beats in time
LEAST_OF_RATE = 0.8 # that the client must keep
TOLD_AT_ONCE = 20 # jobs of Mixed

# The benchmark's own connections, apart from those of the system that it measures.
OWN = RedisClient.config(url: ENV.fetch("REDIS_URL")).new_pool(size: 10)

class Noop
  include Sidekiq::Job

  def perform
  end
end

class Wait50ms
  include Sidekiq::Job

  def perform
    sleep 0.05
  end
end

class Wait1ms
  include Sidekiq::Job

  def perform
    sleep 0.001
  end
end

class Answer
  include Sidekiq::Job

  def perform(sent)
    late = Time.now.to_f - sent
    OWN.call("RPUSH", ANSWERS, late)
  end
end

# How late jobs started, told in slices so that telling costs a job little.
module Late
  @late = []
  @telling = Mutex.new

  def self.tell(late)
    told = @telling.synchronize do
      @late << late
      @late.shift(TOLD_AT_ONCE) if @late.size >= TOLD_AT_ONCE
    end
    OWN.call("RPUSH", ANSWERS, *told) if told
  end
end

class Mixed
  include Sidekiq::Job

  def perform(milliseconds, sent)
    Late.tell(Time.now.to_f - sent)
    sleep milliseconds / 1000.0 if milliseconds > 0
  end
end

Sidekiq.configure_client { |config| config.logger.level = Logger::WARN }

Sidekiq.configure_server do |config|
  config.logger.level = Logger::WARN
  config[:skip_default_job_logging] = true
  # As often as by default, but the first time within 5 s of the start, not 15.
  config[:poll_interval_average] = config[:average_scheduled_poll_interval]
  # A job that fails is a warning to Sidekiq; it must fail the measurement.
  config.error_handlers << proc { |error| warn "ERROR #{error.full_message(highlight: false)}" }
end

# The verbs of the line protocol.
module Client
  JOBS = {"noop" => Noop, "wait_50ms" => Wait50ms, "wait_1ms" => Wait1ms}.freeze

  module_function

  def enqueue_one(job, count)
    klass = JOBS.fetch(job)
    count.times { klass.perform_async }
  end

  def enqueue_bulk(job, count, queue = "default")
    JOBS.fetch(job).set(queue: queue).perform_bulk(Array.new(count) { [] }, batch_size: SLICE)
  end

  def schedule(job, count, due)
    Sidekiq::Client.push_bulk("class" => JOBS.fetch(job), "args" => Array.new(count) { [] }, "at" => due, :batch_size => SLICE)
  end

  def send_answer(queue, sent)
    Answer.set(queue: queue).perform_async(sent)
  end

  def probe(queue, count)
    Array.new(count) do
      send_answer(queue, Time.now.to_f)
      _, late = OWN.blocking_call(SECONDS_TO_ANSWER + 1, "BLPOP", ANSWERS, SECONDS_TO_ANSWER)
      raise "A job in #{queue.inspect} did not start within #{SECONDS_TO_ANSWER} s." unless late

      sleep rand(PAUSES)
      Float(late)
    end
  end

  # As in benchmarks/client.py.
  def steady(count, rate)
    start = now
    mixture = ([0] * 90 + [5] * 9 + [200]) * count.fdiv(100).ceil
    mixture.shuffle(random: Random.new(count)).first(count).each_with_index do |milliseconds, number|
      early = rate > 0 ? start + number.fdiv(rate) - now : 0
      sleep early if early > 0
      Mixed.perform_async(milliseconds, Time.now.to_f)
    end
    return [] if rate == 0

    took = now - start
    raise "Only #{(count / took).round} jobs a second were enqueued, of #{rate}: the machine is too busy." if took > count.fdiv(rate) / LEAST_OF_RATE

    deadline = now + SECONDS_TO_ANSWER
    while (told = OWN.call("LLEN", ANSWERS)) <= count - TOLD_AT_ONCE
      raise "Only #{told} of #{count} jobs started within #{SECONDS_TO_ANSWER} s." if now > deadline

      sleep PAUSES.max
    end
    OWN.call("LRANGE", ANSWERS, 0, -1).map { |late| Float(late) }
  end

  def now
    Process.clock_gettime(Process::CLOCK_MONOTONIC)
  end

  def answer(verb, arguments)
    return {late: public_send(verb, *arguments)} if %w[probe steady].include?(verb)

    start = now
    public_send(verb, *arguments)
    {seconds: now - start}
  rescue => error
    {error: "#{error.class}: #{error.message}"}
  end

  def serve
    # Whatever a library prints goes to the log: the replies have a file of their own.
    replies = $stdout.dup
    replies.sync = true
    $stdout.reopen($stderr)
    driver = defined?(RedisClient::HiredisConnection) ? "hiredis" : "pure Ruby"
    replies.puts(JSON.generate(version: Sidekiq::VERSION, ruby: RUBY_VERSION, driver: driver))
    $stdin.each_line do |line|
      verb, *arguments = JSON.parse(line)
      replies.puts(JSON.generate(answer(verb, arguments)))
    end
  end
end

Client.serve if $PROGRAM_NAME == __FILE__
