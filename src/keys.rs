//! Keys as operators hand them over: several in one text, the first in force, the others accepted still. So a rotation
//! is three edits of one file: the new key at the end, then at the front, then the old one taken out. Files are read
//! again when they change; nothing is restarted.

use std::{future::Future, path::PathBuf, time::Duration};

use secrecy::{ExposeSecret, SecretString};
use sha2::{Digest, Sha256};

use crate::setting::BadSetting;

/// So soon a changed file is in force.
const LOOK_EVERY: Duration = Duration::from_secs(1);
/// What was refused is tried again after so many looks: the reason may be gone though the file is the same.
const INSIST_AFTER: u32 = 10;
const NAME_MAX: usize = 64;

/// One of the keys of a text, and the name that its operator gave it.
#[derive(Debug, Clone)]
pub struct Listed {
    pub name: Option<String>,
    pub key: SecretString,
}

/// The text of a setting that is given directly or by file; `None` when neither is.
///
/// # Errors
/// Both are given, or the file cannot be read.
pub fn text(
    setting: &str,
    direct: &Option<SecretString>,
    file: &Option<PathBuf>,
) -> Result<Option<SecretString>, BadSetting> {
    let wrong = |setting: String, what: String| BadSetting { setting, what };
    match (direct, file) {
        (Some(_), Some(_)) => Err(wrong(setting.to_owned(), format!("is given twice, also as {}_file", last(setting)))),
        (Some(text), None) => Ok(Some(text.clone())),
        (None, Some(path)) => match std::fs::read_to_string(path) {
            Ok(text) => Ok(Some(text.into())),
            Err(error) => Err(wrong(format!("{setting}_file"), format!("cannot be read: {}: {error}", path.display()))),
        },
        (None, None) => Ok(None),
    }
}

fn last(setting: &str) -> &str {
    setting.rsplit('.').next().unwrap_or(setting)
}

/// Keys of one word, each on its line, behind its name where it has one. Empty lines and those that begin with `#` say
/// nothing.
///
/// # Errors
/// There is none, a name is none or stands twice, or a line has a third word.
pub fn lines(text: &SecretString) -> Result<Vec<Listed>, &'static str> {
    let lines = text.expose_secret().lines().map(str::trim).filter(|line| !line.is_empty() && !line.starts_with('#'));
    let listed = lines.map(|line| {
        let mut words = line.split_whitespace();
        match (words.next(), words.next(), words.next()) {
            (Some(key), None, None) => Ok(Listed { name: None, key: key.into() }),
            (Some(name), Some(key), None) if is_name(name) => Ok(Listed { name: Some(name.into()), key: key.into() }),
            _ => Err("has a line that is neither a key nor a name and a key"),
        }
    });
    distinct(listed.collect::<Result<_, _>>()?)
}

/// Keys in PEM. The name of one stands alone on the line before it; what else stands between them says nothing.
///
/// # Errors
/// A name stands twice.
pub fn blocks(text: &SecretString) -> Result<Vec<Listed>, &'static str> {
    let mut listed = Vec::new();
    let (mut name, mut block) = (None, String::new());
    for line in text.expose_secret().lines() {
        if block.is_empty() && !line.starts_with("-----BEGIN ") {
            if !line.trim().is_empty() {
                name = Some(line.trim()).filter(|word| is_name(word)).map(str::to_owned);
            }
            continue;
        }
        block.push_str(line);
        block.push('\n');
        if line.starts_with("-----END ") {
            listed.push(Listed { name: name.take(), key: std::mem::take(&mut block).into() });
        }
    }
    if listed.is_empty() {
        // Whoever reads it says what it is not.
        listed.push(Listed { name: None, key: text.clone() });
    }
    distinct(listed)
}

fn is_name(word: &str) -> bool {
    (1..=NAME_MAX).contains(&word.len())
        && word.bytes().all(|byte| byte.is_ascii_alphanumeric() || matches!(byte, b'.' | b'_' | b'-'))
}

fn distinct(listed: Vec<Listed>) -> Result<Vec<Listed>, &'static str> {
    if listed.is_empty() {
        return Err("lists no key");
    }
    let twice = |at: usize, one: &Listed| one.name.is_some() && listed[..at].iter().any(|two| two.name == one.name);
    let is_doubled = listed.iter().enumerate().any(|(at, one)| twice(at, one));
    if is_doubled { Err("gives two keys one name") } else { Ok(listed) }
}

/// Has the files' keys taken once, and again whenever one of the files changes. What cannot be taken is told, and
/// whatever was in force stays. Ends only when there are no files.
pub async fn follow<Taken>(keys: &'static str, files: Vec<PathBuf>, mut take: impl FnMut() -> Taken)
where
    Taken: Future<Output = Result<(), String>>,
{
    let gauge = metrics::gauge!("keys_refused", "keys" => keys);
    let mut in_force = None;
    let mut refused: Option<Refused> = None;
    loop {
        let found = digest(&files);
        match &mut refused {
            _ if in_force == Some(found) => {
                if refused.take().is_some() {
                    tracing::info!(keys, "keys are again what is in force");
                }
                gauge.set(0);
            }
            Some(same) if same.found == found && same.looks < INSIST_AFTER => same.looks += 1,
            _ => match take().await {
                Ok(()) => {
                    if in_force.replace(found).is_some() {
                        tracing::info!(keys, "keys were read again and are in force");
                    }
                }
                Err(reason) => {
                    gauge.set(1);
                    if refused.is_none_or(|before| before.reason != reason) {
                        tracing::error!(keys, reason, "keys cannot be taken; those before stay in force");
                    }
                    refused = Some(Refused { found, reason, looks: 0 });
                }
            },
        }
        if files.is_empty() && in_force.is_some() {
            return;
        }
        tokio::time::sleep(LOOK_EVERY).await;
    }
}

/// What was not taken, and how often it was seen since.
struct Refused {
    found: [u8; 32],
    reason: String,
    looks: u32,
}

/// What is in the files, told apart from anything else that might be.
fn digest(files: &[PathBuf]) -> [u8; 32] {
    let mut digest = Sha256::new();
    for file in files {
        // A file that is away for a moment is a change too.
        let content = std::fs::read(file).unwrap_or_default();
        digest.update(content.len().to_le_bytes());
        digest.update(content);
    }
    digest.finalize().into()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn told(listed: Result<Vec<Listed>, &'static str>) -> Result<Vec<(Option<String>, String)>, &'static str> {
        let told = |one: Listed| (one.name, one.key.expose_secret().trim().to_owned());
        listed.map(|all| all.into_iter().map(told).collect())
    }

    #[test]
    fn s6_4_several_keys_stand_in_one_text_the_first_in_force() {
        let text = "# rotated in May\nb bbb\n\n aaa \n".into();
        assert_eq!(told(lines(&text)), Ok(vec![(Some("b".into()), "bbb".into()), (None, "aaa".into())]));
        for (text, wrong) in [
            ("", "lists no key"),
            ("a 1\na 2", "gives two keys one name"),
            ("a b c", "has a line that is neither a key nor a name and a key"),
            ("é key", "has a line that is neither a key nor a name and a key"),
        ] {
            assert_eq!(told(lines(&text.into())), Err(wrong), "{text}");
        }
    }

    #[test]
    fn s6_4_a_block_of_pem_is_named_by_the_line_before_it() {
        let block = |body: &str| format!("-----BEGIN PUBLIC KEY-----\n{body}\n-----END PUBLIC KEY-----");
        let (one, two) = (block("one"), block("two"));
        let text = format!("Bag of words\nPUB_KEY_ID_2\n{two}\n\n{one}\nlast words\n").into();
        assert_eq!(told(blocks(&text)), Ok(vec![(Some("PUB_KEY_ID_2".into()), two), (None, one)]));
        assert_eq!(told(blocks(&"nothing of the kind".into())), Ok(vec![(None, "nothing of the kind".into())]));
    }
}
