# The calls of the client matrix through redis-rb: calls.rb MODE HOST PORT KEY

require 'redis'

$stdout.sync = true
mode, host, port, key = ARGV

def value(call, number)
  "#{call}-#{number} \u00e9 \"q\" \\ \r\n\0."
end

def attempt(call)
  yield
  puts "#{call} ok"
rescue StandardError => e
  puts "#{call} error: #{e.class}: #{e.message.gsub(/\s+/, ' ')}"
end

def check(reply, wanted)
  raise "#{reply.inspect} instead of #{wanted.inspect}" unless reply == wanted
end

client = case mode
         when 'cluster' then Redis.new(cluster: ["redis://#{host}:#{port}"])
         when 'sentinel' then Redis.new(url: 'redis://mymaster', sentinels: [{ host: host, port: port.to_i }], role: :master)
         else Redis.new(host: host, port: port.to_i)
         end
puts "version #{Redis::VERSION}"
attempt('ordinary') { check(client.rpush(key, value('ordinary', 0)), 1) }
attempt('health') do
  check(client.ping, 'PONG')
  check(client.info.to_s.include?('redis_version'), true)
end
attempt('pipeline') do
  check(client.pipelined { |pipe| 10.times { |n| pipe.rpush(key, value('pipeline', n)) } }, [1] * 10)
end
attempt('transaction') do
  check(client.multi { |multi| 5.times { |n| multi.rpush(key, value('transaction', n)) } }, [1] * 5)
end
puts 'restart'
$stdin.gets
attempt('reconnect') do
  tried = 0
  begin
    check(client.rpush(key, value('reconnect', 0)), 1)
  rescue StandardError
    tried += 1
    raise if tried == 60

    sleep 0.5
    retry
  end
end
