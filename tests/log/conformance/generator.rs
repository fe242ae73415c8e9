//! Makes streams of commands from a seed: what clients send, and what they send wrongly.

/// A command of a stream.
#[derive(Clone, Debug)]
pub(super) struct Command {
    /// Its words as text, upper-case name, for reports and `intended.tsv`.
    pub(super) text: String,
    /// As sent.
    pub(super) bytes: Vec<u8>,
    /// How many replies it gets, if nothing is wrong.
    pub(super) replies: usize,
}

/// A stream, for a connection of its own.
pub(super) type Stream = Vec<Command>;

/// Numbers from a seed (SplitMix64).
pub(super) struct Random(u64);

impl Random {
    pub(super) fn new(seed: u64) -> Self {
        Self(seed)
    }

    fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mixed = (self.0 ^ (self.0 >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        let mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        mixed ^ (mixed >> 31)
    }

    fn below(&mut self, limit: usize) -> usize {
        (self.next() % limit as u64) as usize
    }

    fn pick<'a, T: ?Sized>(&mut self, from: &[&'a T]) -> &'a T {
        from[self.below(from.len())]
    }

    fn one_in(&mut self, count: usize) -> bool {
        self.below(count) == 0
    }
}

/// Valid commands. `K` is a key, `C` a channel, `V` a value, `N` a number, `F` a float.
const VALID: &[&str] = &[
    "PING",
    "PING V",
    "ECHO V",
    "SELECT 3",
    "SELECT 0",
    "TIME",
    "ROLE",
    "DBSIZE",
    "COMMAND COUNT",
    "COMMAND INFO lpush",
    "COMMAND INFO nosuch",
    "COMMAND GETKEYS lpush a b",
    "COMMAND GETKEYS mset a 1 b 2",
    "LPUSH K V",
    "RPUSH K V V V",
    "LPUSHX K V",
    "RPUSHX K V",
    "PUBLISH C V",
    "SPUBLISH C V",
    "XADD K * f V",
    "XADD K 5-1 f V g V",
    "XADD K 0-* f V",
    "XADD K MAXLEN ~ 100 * f V",
    "XADD K NOMKSTREAM 7-7 f V",
    "SET K V",
    "SET K V EX 100",
    "SET K V NX",
    "SET K V XX KEEPTTL",
    "HSET K f V",
    "HSET K f V g V",
    "HMSET K f V",
    "ZADD K F V",
    "ZADD K CH F V F V",
    "ZADD K NX F V",
    "ZADD K XX GT F V",
    "LLEN K",
    "LRANGE K 0 -1",
    "LTRIM K 0 99",
    "XLEN K",
    "DEL K",
    "UNLINK K K",
    "EXISTS K",
    "TYPE K",
    "GET K",
    "MGET K K",
    "TTL K",
    "PTTL K",
    "EXPIRE K 100",
    "PEXPIRE K 100 NX",
    "EXPIREAT K 99999999999",
    "PERSIST K",
    "KEYS nosuch*",
    "SCAN 0 MATCH nosuch*",
    "OBJECT ENCODING K",
    "OBJECT FREQ K",
    "ZREMRANGEBYSCORE K -inf (5",
    "ZREMRANGEBYRANK K 0 1",
    "CLIENT GETNAME",
    "CLIENT SETNAME w",
    "CLIENT NO-EVICT ON",
    "CLIENT TRACKING ON OPTIN",
    "CLIENT TRACKING ON",
    "CLIENT TRACKING OFF",
    "CLIENT TRACKINGINFO",
    "CLIENT GETREDIR",
    "CLIENT CACHING YES",
    "CLIENT ID",
    "CLIENT INFO",
    "CLIENT UNBLOCK 999999",
    "CLIENT REPLY ON",
    "CLIENT NOSUCH",
    "CLIENT LIST ID 999999999",
    "CLIENT LIST TYPE master",
    "CONFIG GET nosuchparameter",
    "CONFIG GET appendonly",
    "CONFIG GET save",
    "CONFIG GET maxmemory-policy databases",
    "CONFIG RESETSTAT",
    "SLOWLOG LEN",
    "SLOWLOG GET",
    "SLOWLOG GET 5",
    "SLOWLOG RESET",
    "LATENCY LATEST",
    "LATENCY RESET",
    "LATENCY HISTORY command",
    "LATENCY GRAPH command",
    "MEMORY USAGE nosuch",
    "MEMORY PURGE",
    "CLUSTER INFO",
    "CLUSTER SLOTS",
    "READONLY",
    "SENTINEL masters",
    "WAIT 0 0",
    "PUBSUB CHANNELS nosuch*",
    "PUBSUB NUMSUB nosuch",
    "ACL WHOAMI",
    "ACL CAT nosuch",
    "ACL USERS",
    "ACL DRYRUN default get k",
    "INFO nosuch",
    "SCRIPT EXISTS abc",
    "SCRIPT FLUSH",
    "EVALSHA ffffffffffffffffffffffffffffffffffffffff 0",
    "AUTH wrong",
    "AUTH nobody wrong",
    "HELLO",
    "HELLO 4",
    "HELLO 3 NOSUCH",
    "RESET",
    "UNWATCH",
    "WATCH K",
    "NOSUCHCOMMAND",
    "NOSUCHCOMMAND a V",
    "LPOP K",
    "GETSET K V",
    "INCR K",
    "SADD K V",
];

/// Words that stand where others should.
const WRONG: &[&str] = &[
    "",
    "abc",
    "-1",
    "0",
    "99999999999999999999",
    "1.5",
    "+1",
    "01",
    " 1",
    "nan",
    "NX",
    "*",
    "-",
    "\u{e9}",
    "a'b",
    "\\",
];

/// Values of all kinds.
const VALUES: &[&[u8]] = &[
    b"v",
    b"",
    b"two words",
    b"{\"a\":1}",
    b"\x00\xff\r\n",
    b"\"quoted\" 'both' \\",
    b"line\nbreak",
    "\u{e9}\u{4e2d}".as_bytes(),
];

/// Bytes after which no server goes on, and some that look so.
const JUNK: &[&[u8]] = &[
    b"*abc\r\n",
    b"*1\r\n:1\r\n",
    b"*1\r\n$abc\r\n",
    b"*1\r\n$-5\r\n",
    b"PING \"open\r\n",
    b"PING 'x'y\r\n",
    b"*99999999999\r\n",
    b"\r\n",
    b"*0\r\n",
    b"*-1\r\n",
];

/// Makes the stream with this number; its keys are its own.
pub(super) fn stream(random: &mut Random, number: usize) -> Stream {
    let mut maker = Maker { random, number, stream: Vec::new(), multi: false };
    if maker.random.one_in(3) {
        maker.add("HELLO 3");
    }
    for _ in 0..=maker.random.below(9) {
        match maker.random.below(24) {
            0 => maker.transaction(),
            1 => maker.reply_mode(),
            2 if maker.random.one_in(4) => {
                let bytes = maker.random.pick(JUNK).to_vec();
                let ends = !matches!(bytes.first(), Some(b'\r')) && !matches!(bytes.get(1), Some(b'0' | b'-'));
                let text = format!("JUNK {}", String::from_utf8_lossy(&bytes).trim_end());
                maker.stream.push(Command { text, bytes, replies: usize::from(ends) });
                if ends {
                    return maker.stream;
                }
            }
            3..6 => maker.wrong(),
            _ => maker.any(),
        }
    }
    if maker.random.one_in(4) {
        maker.subscriptions();
    }
    maker.add("QUIT");
    maker.stream
}

struct Maker<'a> {
    random: &'a mut Random,
    number: usize,
    stream: Stream,
    multi: bool,
}

impl Maker<'_> {
    /// A command from its template, sent as it is.
    fn add(&mut self, template: &str) {
        let words = self.words(template);
        self.send(words);
    }

    fn any(&mut self) {
        let template = self.random.pick(VALID);
        self.add(template);
    }

    fn wrong(&mut self) {
        let template = self.random.pick(VALID);
        let mut words = self.words(template);
        let place = self.random.below(words.len());
        match self.random.below(4) {
            0 if words.len() > 1 => _ = words.pop(),
            1 => words.push(self.random.pick(WRONG).as_bytes().to_vec()),
            2 if place > 0 => words[place] = self.random.pick(WRONG).as_bytes().to_vec(),
            _ => words[0] = words[0].to_ascii_lowercase(),
        }
        self.send(words);
    }

    fn transaction(&mut self) {
        if self.random.one_in(3) {
            self.add("WATCH K");
        }
        self.add("MULTI");
        self.multi = true;
        for _ in 0..self.random.below(5) {
            if self.random.one_in(8) { self.wrong() } else { self.any() }
        }
        self.multi = false;
        let end = self.random.pick(&["EXEC", "EXEC", "EXEC", "DISCARD", "EXEC now"]);
        self.add(end);
    }

    /// Replies switched off for a while; the model of who is answered is the session's own.
    fn reply_mode(&mut self) {
        let from = self.stream.len();
        if self.random.one_in(2) {
            self.add("CLIENT REPLY SKIP");
            self.add("PING");
        } else {
            self.add("CLIENT REPLY OFF");
            self.add("PING V");
            self.add("LPUSH K V");
            self.stream[from..].iter_mut().for_each(|command| command.replies = 0);
            self.add("CLIENT REPLY ON");
            return;
        }
        self.stream[from..].iter_mut().for_each(|command| command.replies = 0);
    }

    /// At most one name of a kind at a time, so that giving up all of them is one reply. Nobody publishes there.
    fn subscriptions(&mut self) {
        const STEPS: &[&str] = &[
            "SUBSCRIBE sub",
            "PSUBSCRIBE sub*",
            "SSUBSCRIBE shard",
            "UNSUBSCRIBE",
            "PUNSUBSCRIBE",
            "SUNSUBSCRIBE",
            "UNSUBSCRIBE sub",
            "UNSUBSCRIBE nosuch",
            "SUBSCRIBE",
            "PSUBSCRIBE",
            "PING",
            "PING V",
            "GET K",
            "LPUSH K V",
            "RESET",
            "CLIENT NOSUCH",
            "NOSUCHCOMMAND",
            "HELLO 3 NOSUCH",
            "ECHO V",
        ];
        for _ in 0..=self.random.below(6) {
            let step = self.random.pick(STEPS);
            self.add(step);
        }
    }

    fn words(&mut self, template: &str) -> Vec<Vec<u8>> {
        let number = self.number;
        template
            .split(' ')
            .map(|word| match word {
                "K" => format!("{}-{number}", self.random.pick(&["list", "other"])).into_bytes(),
                "C" => format!("channel-{number}").into_bytes(),
                "V" => self.random.pick(VALUES).to_vec(),
                "F" => self.random.pick(&["1", "2.5", "-inf", "1e3"]).as_bytes().to_vec(),
                word => word.as_bytes().to_vec(),
            })
            .collect()
    }

    fn send(&mut self, words: Vec<Vec<u8>>) {
        let shown: Vec<String> = words.iter().map(|word| String::from_utf8_lossy(word).into_owned()).collect();
        let name = shown[0].to_uppercase();
        // Neither of these is one reply a command.
        if name == "CLIENT" && shown.get(1).is_some_and(|sub| sub.eq_ignore_ascii_case("reply")) && self.multi {
            return;
        }
        let text = std::iter::once(&name).chain(&shown[1..]).map(String::as_str).collect::<Vec<_>>().join(" ");
        let bytes = if self.random.one_in(3) { self.inline(&words) } else { crate::bed::resp::encode(&words) };
        self.stream.push(Command { text, bytes, replies: 1 });
    }

    /// As a line, with quotes of either kind where they are needed and where they are not.
    fn inline(&mut self, words: &[Vec<u8>]) -> Vec<u8> {
        let mut line = Vec::new();
        for word in words {
            let blanks = 1 + self.random.below(2);
            line.extend(std::iter::repeat_n(b' ', if line.is_empty() { 0 } else { blanks }));
            let plain =
                !word.is_empty() && word.iter().all(|byte| byte.is_ascii_alphanumeric() || b"-*.:~(".contains(byte));
            let printable = word.iter().all(|byte| (b' '..127).contains(byte));
            match self.random.below(3) {
                0 | 1 if plain => line.extend(word),
                2 if printable && !word.ends_with(b"\\") && !word.windows(2).any(|pair| pair == b"\\'") => {
                    line.push(b'\'');
                    line.extend(
                        word.iter().flat_map(|byte| if *byte == b'\'' { vec![b'\\', b'\''] } else { vec![*byte] }),
                    );
                    line.push(b'\'');
                }
                _ => {
                    line.push(b'"');
                    line.extend(word.iter().flat_map(|byte| quoted(*byte)));
                    line.push(b'"');
                }
            }
        }
        line.extend(if self.random.one_in(4) { &b"\n"[..] } else { b"\r\n" });
        line
    }
}

fn quoted(byte: u8) -> Vec<u8> {
    match byte {
        b'"' | b'\\' => vec![b'\\', byte],
        b'\n' => b"\\n".to_vec(),
        b'\r' => b"\\r".to_vec(),
        b' '..127 => vec![byte],
        _ => format!("\\x{byte:02x}").into_bytes(),
    }
}
