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

SLICE = 1_000 # jobs a round trip, as ours; also Sidekiq's default
ANSWERS = "bench:answers"
SECONDS_TO_ANSWER = 60
PAUSES = (0.02..0.06) # seconds between probes; random, so that no poller beats in time

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

  def answer(verb, arguments)
    return {late: probe(*arguments)} if verb == "probe"

    start = Process.clock_gettime(Process::CLOCK_MONOTONIC)
    public_send(verb, *arguments)
    {seconds: Process.clock_gettime(Process::CLOCK_MONOTONIC) - start}
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
