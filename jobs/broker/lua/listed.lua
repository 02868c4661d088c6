-- Enter a worker in RQ's lists of workers, or strike it off.
--
-- KEYS  the lists, sets of the keys of workers
-- ARGV  1 SADD or SREM   2 the worker's key
-- Parts: server

for _, list in ipairs(KEYS) do write(ARGV[1], list, ARGV[2]) end
return 1
