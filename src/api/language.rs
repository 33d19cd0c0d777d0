//! The two languages we speak to customers, and which one a caller wants.

/// Chinese unless English is preferred.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Language {
    #[default]
    Chinese,
    English,
}

impl Language {
    pub fn tag(self) -> &'static str {
        match self {
            Self::Chinese => "zh-CN",
            Self::English => "en",
        }
    }

    /// Reads `Accept-Language` (RFC 9110). Anything unreadable in it is skipped.
    pub fn preferred(accept: &str) -> Self {
        let mut best = (0, Self::default());
        for range in accept.split(',') {
            let mut parts = range.split(';').map(str::trim);
            let tag = parts.next().unwrap_or_default().to_ascii_lowercase();
            let language = match tag.split('-').next() {
                Some("zh" | "*") => Self::Chinese,
                Some("en") => Self::English,
                _ => continue,
            };
            let weight = parts.find_map(|part| part.strip_prefix("q=")).map_or(1000, thousandths);
            if weight > best.0 {
                best = (weight, language);
            }
        }
        best.1
    }
}

/// A weight from `0` to `1.000`; what is not one counts as 0.
fn thousandths(weight: &str) -> u16 {
    let (whole, fraction) = weight.split_once('.').unwrap_or((weight, ""));
    let padded = format!("{fraction:0<3}");
    match (whole, padded.parse::<u16>()) {
        ("1", Ok(0)) => 1000,
        ("0", Ok(fraction)) if padded.len() == 3 => fraction,
        _ => 0,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn the_heaviest_known_language_wins_and_chinese_is_the_default() {
        for (accept, language) in [
            ("", Language::Chinese),
            ("en", Language::English),
            ("en-GB,en;q=0.9", Language::English),
            ("zh-CN,zh;q=0.9,en;q=0.8", Language::Chinese),
            ("en;q=0.3, zh-TW;q=0.4", Language::Chinese),
            ("de, en;q=0.1", Language::English),
            ("de", Language::Chinese),
            ("en;q=0", Language::Chinese),
            ("en;q=nonsense, zh;q=0.001", Language::Chinese),
            ("*", Language::Chinese),
        ] {
            assert_eq!(Language::preferred(accept), language, "{accept:?}");
        }
    }

    proptest! {
        #[test]
        fn any_text_has_an_answer(accept in ".{0,80}") {
            Language::preferred(&accept);
        }
    }
}
