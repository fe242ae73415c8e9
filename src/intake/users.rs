//! Who may connect, and what each user may run and write.
//!
//! Rules are Redis's (`+lpush`, `-info`, `+client|id`, `+@write`, `allcommands`), applied in order to nothing, and worked
//! out once into a set, so that a check is a test of one bit.

use std::collections::BTreeMap;
use std::sync::Arc;

use subtle::ConstantTimeEq;

use super::commands::glob;
use super::commands::table::{self, ID_LIMIT, Spec, category};
use super::config::{Login, UserConfig};

/// The user whom AUTH with one argument means, and who a connection is before AUTH if no password is asked.
pub const DEFAULT_USER: &str = "default";

/// The longest password, in bytes: all are compared over this length.
pub const PASSWORD_LIMIT: usize = 512;

/// All users.
#[derive(Debug)]
pub struct Users {
    by_name: BTreeMap<String, (Door, Arc<User>)>,
}

/// One user's rights.
#[derive(Debug)]
pub struct User {
    /// The name.
    pub name: String,
    /// Patterns of keys and channels, as configured; empty: all.
    keys: Vec<String>,
    /// The rules as configured, for ACL LIST; empty: all commands.
    rules: Vec<String>,
    runs: SpecSet,
    /// AUTH with the name alone does not do.
    needs_password: bool,
}

/// Why the users of a configuration cannot be; whoever wrote it can mend it.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum UsersError {
    /// A user without a name.
    #[error("a user has an empty name; give it one")]
    NoName,
    /// A name that clients could not send or ACL LIST could not show.
    #[error("user {0:?}: a name has no spaces or control characters; choose another")]
    BadName(String),
    /// Two users of one name.
    #[error("user {0:?} stands there twice; keep one of the two")]
    Twice(String),
    /// A password file that holds nothing.
    #[error("user {0:?}: the password is empty; write one into its file, or leave `password_file` out to ask for none")]
    EmptyPassword(String),
    /// A password beyond [`PASSWORD_LIMIT`].
    #[error("user {0:?}: the password is longer than {PASSWORD_LIMIT} bytes; choose a shorter one")]
    LongPassword(String),
    /// A rule that means nothing.
    #[error(
        "user {user:?}: the rule {rule:?} is unknown; write +command, -command, +command|subcommand, +@category, \
         -@category, allcommands or nocommands (ACL CAT lists the categories)"
    )]
    UnknownRule {
        /// Whose rule.
        user: String,
        /// The rule.
        rule: String,
    },
}

#[derive(Clone, Debug)]
struct SpecSet([u64; ID_LIMIT / 64]);

/// How one becomes a user by AUTH.
#[derive(Debug)]
enum Door {
    /// By any password.
    Open,
    /// By this one.
    Password(Box<Password>),
    /// Not at all.
    Shut,
}

/// Padded, so that comparing tells nothing of length or place of a difference.
struct Password {
    padded: [u8; PASSWORD_LIMIT],
    length: u64,
}

// === impl Users ===

impl Users {
    /// The users of a configuration. Without any there is a default user who may do everything without a password.
    pub fn from_config(configs: &[UserConfig]) -> Result<Self, UsersError> {
        let mut by_name = BTreeMap::new();
        for config in configs {
            let name = config.name.clone();
            if name.is_empty() {
                return Err(UsersError::NoName);
            }
            if name.chars().any(|c| c.is_whitespace() || c.is_control()) {
                return Err(UsersError::BadName(name));
            }
            let door = match &config.login {
                Login::Free => Door::Open,
                Login::Certificate => Door::Shut,
                Login::Password(text) if text.is_empty() => return Err(UsersError::EmptyPassword(name)),
                Login::Password(text) if text.len() > PASSWORD_LIMIT => return Err(UsersError::LongPassword(name)),
                Login::Password(text) => Door::Password(Box::new(Password::new(text.as_bytes()))),
            };
            let user = User::new(config, !matches!(door, Door::Open))?;
            if by_name.insert(name.clone(), (door, Arc::new(user))).is_some() {
                return Err(UsersError::Twice(name));
            }
        }
        if by_name.is_empty() {
            by_name.insert(DEFAULT_USER.to_owned(), (Door::Open, Arc::new(User::everything())));
        }
        Ok(Self { by_name })
    }

    /// The user of that name, if the password is right. An unknown name costs as much as a wrong password.
    pub fn authenticate(&self, name: &[u8], password: &[u8]) -> Option<Arc<User>> {
        let given = Password::new(password);
        let known = std::str::from_utf8(name).ok().and_then(|name| self.by_name.get(name));
        let nobody = Password::nobody();
        let expected = match known {
            Some((Door::Password(expected), _)) => &**expected,
            _ => &nobody,
        };
        let equal = expected.equals(&given);
        let (door, user) = known?;
        (equal || matches!(door, Door::Open)).then(|| user.clone())
    }

    /// Who shows a certificate with these names: the user of the first name that is one.
    pub fn certified(&self, names: &[String]) -> Option<Arc<User>> {
        names.iter().find_map(|name| self.get(name)).cloned()
    }

    /// Who a new connection is: the default user, if there is one without a password.
    pub fn default_user(&self) -> Option<Arc<User>> {
        self.get(DEFAULT_USER).filter(|user| !user.needs_password).cloned()
    }

    /// The user of that name.
    pub fn get(&self, name: &str) -> Option<&Arc<User>> {
        self.by_name.get(name).map(|(_, user)| user)
    }

    /// All users by name.
    pub fn iter(&self) -> impl Iterator<Item = &Arc<User>> {
        self.by_name.values().map(|(_, user)| user)
    }
}

// === impl User ===

impl User {
    fn new(config: &UserConfig, needs_password: bool) -> Result<Self, UsersError> {
        let mut runs = SpecSet::none();
        for rule in &config.commands {
            if !runs.apply(rule) {
                return Err(UsersError::UnknownRule { user: config.name.clone(), rule: rule.clone() });
            }
        }
        if config.commands.is_empty() {
            runs = SpecSet::all();
        }
        let (name, keys, rules) = (config.name.clone(), config.keys.clone(), config.commands.clone());
        Ok(Self { name, keys, rules, runs, needs_password })
    }

    fn everything() -> Self {
        let name = DEFAULT_USER.to_owned();
        Self { name, keys: Vec::new(), rules: Vec::new(), runs: SpecSet::all(), needs_password: false }
    }

    /// Whether the user may run the command; for a container, ask for its sub-command.
    pub fn may_run(&self, spec: &Spec) -> bool {
        self.runs.contains(spec)
    }

    /// Whether the user may name this key or channel.
    pub fn may_write_key(&self, key: &[u8]) -> bool {
        self.all_keys() || self.keys.iter().any(|pattern| glob::matches(pattern.as_bytes(), key))
    }

    /// Whether the user may follow this key or channel; as in Redis, a pattern must be one of the user's own. What
    /// sentinels tell of themselves is for everybody.
    pub fn may_follow(&self, channel: &[u8], is_pattern: bool) -> bool {
        let own = || self.keys.iter().any(|pattern| pattern.as_bytes() == channel);
        channel.starts_with(b"+") || if is_pattern { self.all_keys() || own() } else { self.may_write_key(channel) }
    }

    /// Whether every key and channel is allowed.
    pub fn all_keys(&self) -> bool {
        self.keys.is_empty()
    }

    /// Whether AUTH asks this user for a password.
    pub fn needs_password(&self) -> bool {
        self.needs_password
    }

    /// The rules for commands in the form of ACL LIST.
    pub fn command_rules(&self) -> String {
        if self.rules.is_empty() { "+@all".into() } else { format!("-@all {}", self.rules.join(" ")) }
    }

    /// The patterns of keys in the form of ACL LIST, each behind `sign` (`~` for keys, `&` for channels).
    pub fn key_rules(&self, sign: char) -> String {
        if self.keys.is_empty() {
            return format!("{sign}*");
        }
        self.keys.iter().map(|pattern| format!("{sign}{pattern}")).collect::<Vec<_>>().join(" ")
    }
}

// === impl SpecSet ===

impl SpecSet {
    fn none() -> Self {
        Self([0; ID_LIMIT / 64])
    }

    fn all() -> Self {
        Self([u64::MAX; ID_LIMIT / 64])
    }

    fn contains(&self, spec: &Spec) -> bool {
        self.0.get(usize::from(spec.id / 64)).is_some_and(|word| word & (1 << (spec.id % 64)) != 0)
    }

    fn set(&mut self, spec: &Spec, allow: bool) {
        if let Some(word) = self.0.get_mut(usize::from(spec.id / 64)) {
            let bit = 1 << (spec.id % 64);
            *word = if allow { *word | bit } else { *word & !bit };
        }
    }

    /// Applies one rule; false: it is unknown.
    fn apply(&mut self, rule: &str) -> bool {
        let rule = rule.to_ascii_lowercase();
        let rule = match rule.as_str() {
            "allcommands" => "+@all",
            "nocommands" => "-@all",
            other => other,
        };
        let (allow, what) = match (rule.strip_prefix('+'), rule.strip_prefix('-')) {
            (Some(what), _) => (true, what),
            (None, Some(what)) => (false, what),
            (None, None) => return false,
        };
        if what == "@all" {
            *self = if allow { Self::all() } else { Self::none() };
            return true;
        }
        if let Some(wanted) = what.strip_prefix('@') {
            let Some((bit, _)) = category::NAMES.iter().find(|(_, name)| *name == wanted) else { return false };
            table::all().filter(|spec| spec.categories & bit != 0).for_each(|spec| self.set(spec, allow));
            return true;
        }
        let (command, sub) = what.split_once('|').map_or((what, None), |(command, sub)| (command, Some(sub)));
        let Some(spec) = table::lookup(command.as_bytes()) else { return false };
        match sub {
            None => std::iter::once(spec).chain(spec.subcommands).for_each(|spec| self.set(spec, allow)),
            Some(sub) => match spec.subcommand(sub.as_bytes()) {
                Some(sub) => self.set(sub, allow),
                None => return false,
            },
        }
        true
    }
}

// === impl Password ===

impl Password {
    fn new(text: &[u8]) -> Self {
        let mut padded = [0; PASSWORD_LIMIT];
        padded.iter_mut().zip(text).for_each(|(to, from)| *to = *from);
        Self { padded, length: text.len() as u64 }
    }

    /// What no password equals: its length is none that a client can send.
    fn nobody() -> Self {
        Self { padded: [0; PASSWORD_LIMIT], length: u64::MAX }
    }

    fn equals(&self, other: &Self) -> bool {
        (self.padded.ct_eq(&other.padded) & self.length.ct_eq(&other.length)).into()
    }
}

impl std::fmt::Debug for Password {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Password(…)")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn user(name: &str, password: Option<&str>, commands: &[&str]) -> UserConfig {
        UserConfig {
            name: name.into(),
            login: password.map_or(Login::Free, |password| Login::Password(password.into())),
            keys: vec!["app-*".into()],
            commands: commands.iter().map(|rule| (*rule).to_owned()).collect(),
        }
    }

    fn runs(commands: &[&str], name: &str) -> bool {
        let users = Users::from_config(&[user("u", None, commands)]).unwrap();
        let (command, sub) = name.split_once('|').unwrap_or((name, ""));
        let spec = table::lookup(command.as_bytes()).unwrap();
        users.get("u").unwrap().may_run(spec.subcommand(sub.as_bytes()).unwrap_or(spec))
    }

    #[test]
    fn without_users_everybody_may_do_everything() {
        let users = Users::from_config(&[]).unwrap();
        let user = users.default_user().unwrap();
        assert!(table::all().all(|spec| user.may_run(spec)));
        assert!(user.may_write_key(b"any"));
    }

    #[test]
    fn with_users_a_connection_is_nobody_until_it_says_who_it_is() {
        assert!(Users::from_config(&[user("app", Some("pw"), &[])]).unwrap().default_user().is_none());
        assert!(Users::from_config(&[user("default", Some("pw"), &[])]).unwrap().default_user().is_none());
        assert!(Users::from_config(&[user("default", None, &[])]).unwrap().default_user().is_some());
    }

    #[test]
    fn only_the_right_password_of_a_known_user_is_accepted() {
        let users = Users::from_config(&[user("app", Some("pw"), &[]), user("open", None, &[])]).unwrap();
        assert_eq!(users.authenticate(b"app", b"pw").unwrap().name, "app");
        for wrong in [&b""[..], b"p", b"pw\0", b"pwx", b"\xff", &[0; 600], &[0; PASSWORD_LIMIT]] {
            assert!(users.authenticate(b"app", wrong).is_none());
            assert!(users.authenticate(b"nobody", wrong).is_none());
            assert!(users.authenticate(b"open", wrong).is_some(), "no password is asked of this one");
        }
    }

    #[test]
    fn who_has_a_certificate_alone_is_no_one_by_password() {
        let certified = UserConfig { login: Login::Certificate, ..user("node", None, &[]) };
        let users = Users::from_config(&[certified, user("app", Some("pw"), &[])]).unwrap();
        for password in [&b""[..], b"pw", &[0; PASSWORD_LIMIT]] {
            assert!(users.authenticate(b"node", password).is_none());
        }
        let names = |names: &[&str]| names.iter().map(|name| (*name).to_owned()).collect::<Vec<_>>();
        let found = |given: &[&str]| users.certified(&names(given)).map(|user| user.name.clone());
        assert_eq!(found(&["other", "app", "node"]).as_deref(), Some("app"));
        assert_eq!(found(&["other"]), None);
        assert!(users.get("node").unwrap().needs_password());
    }

    #[test]
    fn a_longer_password_is_not_cut_down_to_the_right_one() {
        let password = "p".repeat(PASSWORD_LIMIT);
        let users = Users::from_config(&[user("app", Some(&password), &[])]).unwrap();
        assert!(users.authenticate(b"app", password.as_bytes()).is_some());
        assert!(users.authenticate(b"app", format!("{password}p").as_bytes()).is_none());
    }

    #[test]
    fn rules_apply_in_order_to_nothing() {
        assert!(runs(&[], "lpush"));
        assert!(runs(&["+@write"], "lpush"));
        assert!(!runs(&["+@write"], "ping"));
        assert!(!runs(&["+@write", "-lpush"], "lpush"));
        assert!(runs(&["-lpush", "+@write"], "lpush"));
        assert!(runs(&["+LPUSH"], "lpush"));
        assert!(runs(&["allcommands", "-@dangerous"], "lpush"));
        assert!(!runs(&["allcommands", "-@dangerous"], "client|list"));
        assert!(!runs(&["+@all", "nocommands"], "ping"));
    }

    #[test]
    fn a_container_stands_for_its_sub_commands_and_one_can_be_named() {
        assert!(runs(&["+client"], "client|list"));
        assert!(!runs(&["+client", "-client|list"], "client|list"));
        assert!(runs(&["+client|id"], "client|id"));
        assert!(!runs(&["+client|id"], "client|list"));
    }

    #[test]
    fn a_rule_that_means_nothing_is_refused_with_the_remedy() {
        for rule in ["+nosuch", "+@nosuch", "+client|nosuch", "+get|x", "lpush", "~app-*", ""] {
            let error = Users::from_config(&[user("u", None, &[rule])]).unwrap_err();
            assert_eq!(error, UsersError::UnknownRule { user: "u".into(), rule: rule.into() });
            assert!(error.to_string().contains("+@category"));
        }
    }

    #[test]
    fn users_that_cannot_be_are_refused() {
        let refused = |configs: &[UserConfig]| Users::from_config(configs).unwrap_err();
        assert_eq!(refused(&[user("", None, &[])]), UsersError::NoName);
        assert_eq!(refused(&[user("a b", None, &[])]), UsersError::BadName("a b".into()));
        assert_eq!(refused(&[user("a", None, &[]), user("a", None, &[])]), UsersError::Twice("a".into()));
        assert_eq!(refused(&[user("a", Some(""), &[])]), UsersError::EmptyPassword("a".into()));
        let long = "p".repeat(PASSWORD_LIMIT + 1);
        assert_eq!(refused(&[user("a", Some(&long), &[])]), UsersError::LongPassword("a".into()));
    }

    #[test]
    fn keys_outside_the_patterns_are_not_for_the_user() {
        let users = Users::from_config(&[user("u", None, &[])]).unwrap();
        let user = users.get("u").unwrap();
        assert!(user.may_write_key(b"app-log"));
        assert!(!user.may_write_key(b"other"));
        assert!(!user.may_write_key(b""));
    }

    #[test]
    fn a_password_is_never_in_debug_output() {
        let users = Users::from_config(&[user("app", Some("sesame"), &[])]).unwrap();
        assert!(!format!("{users:?}").contains("115"), "not as bytes either");
        assert!(!format!("{users:?}").contains("sesame"));
    }
}
