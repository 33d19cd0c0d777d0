//! The Official Account: access tokens and template messages (WeChat: stable_token, token, template/send).

use std::collections::HashMap;

use serde::{Deserialize, Serialize};
use serde_json::{Value, json};
use time::{Duration, OffsetDateTime};

use super::World;

const TOKEN_LIFE: Duration = Duration::hours(2);
/// In its last minutes a stable token is replaced; the old one lives on as long. A classic one dies as slowly.
const TOKEN_OVERLAP: Duration = Duration::minutes(5);
const BETWEEN_FORCED: Duration = Duration::seconds(30);
const FORCED_PER_DAY: u32 = 20;
/// A client_msg_id is remembered this long.
const MESSAGE_WINDOW: Duration = Duration::minutes(10);

/// An error of the Official Account: always HTTP 200.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct AccountError {
    pub(crate) errcode: i64,
    pub(crate) errmsg: String,
}

impl AccountError {
    pub(crate) fn new(errcode: i64, errmsg: &str) -> Self {
        Self { errcode, errmsg: errmsg.to_owned() }
    }
}

/// Tokens and messages of the one account.
#[derive(Debug, Default)]
pub(crate) struct Account {
    pub(super) tokens: Tokens,
    pub(super) messages: Vec<Message>,
    /// msgid by openid and client_msg_id.
    sent: HashMap<(String, String), (u64, OffsetDateTime)>,
}

/// The two kinds of token, which do not know each other.
#[derive(Debug, Default, Serialize, Deserialize)]
pub(crate) struct Tokens {
    stable: Option<String>,
    classic: Option<String>,
    /// Each token given in the last hours and when it dies.
    given: HashMap<String, OffsetDateTime>,
    /// How many were given ever.
    count: u64,
    /// The last forced refresh and how many there were that day.
    forced: Option<(OffsetDateTime, u32)>,
}

/// A message that was sent.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub(crate) struct Message {
    pub(super) msgid: u64,
    pub(super) touser: String,
    pub(super) template_id: String,
    pub(super) client_msg_id: Option<String>,
    pub(super) url: Option<String>,
    pub(super) data: Value,
    pub(super) sent_at: OffsetDateTime,
}

impl World {
    /// The token all processes share: the same again until its last five minutes.
    pub(crate) fn stable_token(&mut self, force: bool, now: OffsetDateTime) -> Value {
        let current = self.account.tokens.stable.clone();
        let dies = current.as_ref().and_then(|token| self.account.tokens.given.get(token)).copied();
        let force = force && self.may_force(now);
        if let (Some(token), Some(dies)) = (&current, dies)
            && !force
            && now < dies - TOKEN_OVERLAP
        {
            return json!({"access_token": token, "expires_in": (dies - now).whole_seconds()});
        }
        if let Some(token) = current {
            let dies = if force { now } else { dies.unwrap_or(now) };
            self.account.tokens.given.insert(token, dies);
        }
        let token = self.new_token(now);
        self.account.tokens.stable = Some(token.clone());
        self.journal.record("tokens", &self.account.tokens);
        json!({"access_token": token, "expires_in": TOKEN_LIFE.whole_seconds()})
    }

    /// Forced refreshes are limited; beyond the limit the call answers as if it had not been forced.
    fn may_force(&mut self, now: OffsetDateTime) -> bool {
        let (last, times) = match self.account.tokens.forced {
            Some((last, times)) if last.date() == now.date() => (Some(last), times),
            _ => (None, 0),
        };
        let may = times < FORCED_PER_DAY && last.is_none_or(|last| now >= last + BETWEEN_FORCED);
        if may {
            self.account.tokens.forced = Some((now, times + 1));
        }
        may
    }

    /// The older way: a new token each time, and the one before dies soon.
    pub(crate) fn classic_token(&mut self, now: OffsetDateTime) -> Value {
        let token = self.new_token(now);
        if let Some(old) = self.account.tokens.classic.replace(token.clone())
            && let Some(dies) = self.account.tokens.given.get_mut(&old)
        {
            *dies = (*dies).min(now + TOKEN_OVERLAP);
        }
        self.journal.record("tokens", &self.account.tokens);
        json!({"access_token": token, "expires_in": TOKEN_LIFE.whole_seconds()})
    }

    fn new_token(&mut self, now: OffsetDateTime) -> String {
        self.account.tokens.given.retain(|_, dies| now < *dies + TOKEN_LIFE);
        self.account.tokens.count += 1;
        let token = self.numbers_of(&["token", &self.account.tokens.count.to_string()]).text(136);
        self.account.tokens.given.insert(token.clone(), now + TOKEN_LIFE);
        token
    }

    /// Kills every token, as if its time were over: 42001.
    pub(crate) fn expire_tokens(&mut self, now: OffsetDateTime) {
        for dies in self.account.tokens.given.values_mut() {
            *dies = (*dies).min(now);
        }
        self.journal.record("tokens", &self.account.tokens);
    }

    /// Somebody else refreshes by force: no token of before is the latest any more, 40001.
    pub(crate) fn revoke_tokens(&mut self, now: OffsetDateTime) {
        self.account.tokens.given.clear();
        self.account.tokens.classic = None;
        let theirs = self.new_token(now);
        self.account.tokens.stable = Some(theirs);
        self.journal.record("tokens", &self.account.tokens);
    }

    pub(crate) fn check_token(&self, token: Option<&str>, now: OffsetDateTime) -> Result<(), AccountError> {
        match token.map(|token| self.account.tokens.given.get(token)) {
            None => Err(AccountError::new(41001, "access_token missing")),
            Some(None) => Err(AccountError::new(40001, "invalid credential, access_token is invalid or not latest")),
            Some(Some(dies)) if now >= *dies => Err(AccountError::new(42001, "access_token expired")),
            Some(Some(_)) => Ok(()),
        }
    }

    /// Sends a template message; answers its msgid. `message` is a JSON object.
    pub(crate) fn send_message(&mut self, message: &Value, now: OffsetDateTime) -> Result<u64, AccountError> {
        let text = |name: &str| message[name].as_str();
        let touser = text("touser").unwrap_or_default();
        if touser.is_empty() || touser.len() > 128 || !touser.bytes().all(|byte| byte.is_ascii_graphic()) {
            return Err(AccountError::new(40003, "invalid openid"));
        }
        let template_id = text("template_id").unwrap_or_default();
        let templates = &self.settings.templates;
        if template_id.is_empty() || !(templates.is_empty() || templates.iter().any(|known| known == template_id)) {
            return Err(AccountError::new(40037, "invalid template_id"));
        }
        check_data(&message["data"])?;
        if touser.contains("unfollowed") {
            return Err(AccountError::new(43004, "require subscribe"));
        }
        let key = text("client_msg_id").map(|id| (touser.to_owned(), id.to_owned()));
        let earlier = key.as_ref().and_then(|key| self.account.sent.get(key)).copied();
        if let Some((msgid, sent_at)) = earlier
            && now < sent_at + MESSAGE_WINDOW
        {
            return Ok(msgid);
        }
        let which = match (text("client_msg_id"), earlier) {
            (Some(id), earlier) => format!("{id} after {}", earlier.map_or(0, |(msgid, _)| msgid)),
            (None, _) => self.account.messages.len().to_string(),
        };
        // Larger than 32 bits, as real ones can be.
        let chance = self.numbers_of(&["message", touser, &which]).next() % 1_000_000_000_000_000_000;
        let msgid = 3_000_000_000_000_000_000 + chance;
        let message = Message {
            msgid,
            touser: touser.to_owned(),
            template_id: template_id.to_owned(),
            client_msg_id: text("client_msg_id").map(str::to_owned),
            url: text("url").map(str::to_owned),
            data: message["data"].clone(),
            sent_at: now,
        };
        self.journal.record("message", &message);
        self.account.enter(message);
        Ok(msgid)
    }
}

impl Account {
    /// Puts a sent message into the book.
    pub(super) fn enter(&mut self, message: Message) {
        if let Some(id) = &message.client_msg_id {
            self.sent.insert((message.touser.clone(), id.clone()), (message.msgid, message.sent_at));
        }
        self.messages.push(message);
    }
}

/// Every value follows the rule of its key's prefix (WeChat: template message, parameter limits).
fn check_data(data: &Value) -> Result<(), AccountError> {
    let wrong =
        |key: &str, issue: &str| Err(AccountError::new(47003, &format!("argument invalid! data.{key}.value {issue}")));
    let Some(data) = data.as_object().filter(|data| !data.is_empty()) else {
        return Err(AccountError::new(47003, "argument invalid! data is empty"));
    };
    for (key, holder) in data {
        let Some(value) = holder["value"].as_str().filter(|value| !value.is_empty()) else {
            return wrong(key, "is empty");
        };
        if !fits(key.trim_end_matches(|digit: char| digit.is_ascii_digit()), value) {
            return wrong(key, "invalid");
        }
    }
    Ok(())
}

fn fits(kind: &str, value: &str) -> bool {
    let length = value.chars().count();
    let all = |test: fn(char) -> bool| value.chars().all(test);
    let date_like = |c: char| c.is_ascii_digit() || "年月日时分秒点 :-~/上下午周一二三四五六".contains(c);
    match kind {
        "thing" => length <= 20,
        "short_thing" | "symbol" => length <= 5,
        "number" => length <= 32 && all(|c| c.is_ascii_digit() || c == '.' || c == '-'),
        "letter" => length <= 32 && all(|c| c.is_ascii_alphabetic()),
        "character_string" => length <= 32 && all(|c| c.is_ascii_graphic()),
        "time" | "date" => length <= 64 && value.chars().all(date_like) && value.contains(|c: char| c.is_ascii_digit()),
        "amount" => is_amount(value),
        "phone_number" => length <= 17 && all(|c| c.is_ascii_digit() || "+-() ".contains(c)),
        "car_number" => length <= 8,
        "name" => length <= if all(|c| c.is_ascii()) { 20 } else { 10 },
        "phrase" => length <= 5 && all(is_chinese),
        // Texts of the oldest templates, and words from a fixed list that we do not know.
        "keyword" | "first" | "remark" | "const" => true,
        _ => false,
    }
}

/// At most one sign of currency, at most ten digits with decimals, perhaps 元.
fn is_amount(value: &str) -> bool {
    let number = value.strip_prefix(['¥', '￥', '$', '€', '£']).unwrap_or(value);
    let number = number.strip_suffix('元').unwrap_or(number);
    let (whole, decimals) = number.split_once('.').unwrap_or((number, "0"));
    let digits = |part: &str| !part.is_empty() && part.bytes().all(|byte| byte.is_ascii_digit());
    digits(whole) && digits(decimals) && number.bytes().filter(u8::is_ascii_digit).count() <= 10
}

fn is_chinese(character: char) -> bool {
    ('\u{4E00}'..='\u{9FFF}').contains(&character)
}
