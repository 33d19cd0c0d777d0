//! Lists come in pages: `{"items": […], "next": cursor or null}`.

use base64::{Engine as _, engine::general_purpose::URL_SAFE_NO_PAD};
use serde::Serialize;
use time::OffsetDateTime;
use utoipa::ToSchema;

use crate::domain::calendar::Moment;

/// How many items a page has at most.
pub(super) const PAGE: usize = 50;

#[derive(Debug, Serialize, ToSchema)]
pub(super) struct Page<T> {
    items: Vec<T>,
    /// Where the next page begins: give it back as `cursor`; null on the last page.
    next: Option<String>,
}

impl<T> Page<T> {
    /// From one item more than a page has, if there is one; `place` says where an item stands in the order.
    pub(super) fn cut(mut items: Vec<T>, place: impl Fn(&T) -> Place) -> Self {
        let more = items.len() > PAGE;
        items.truncate(PAGE);
        let next = items.last().filter(|_| more).map(|last| place(last).cursor());
        Self { items, next }
    }

    /// The same for a list whose items are numbered: the cursor is the last one's number.
    pub(super) fn by_number(mut items: Vec<(i64, T)>) -> Self {
        let more = items.len() > PAGE;
        items.truncate(PAGE);
        let next = items.last().filter(|_| more).map(|(number, _)| number.to_string());
        Self { items: items.into_iter().map(|(_, item)| item).collect(), next }
    }

    pub(super) fn items(&self) -> &[T] {
        &self.items
    }

    /// The items, and where the next page begins.
    pub(super) fn into_parts(self) -> (Vec<T>, Option<String>) {
        (self.items, self.next)
    }

    /// The same page with something made of each item.
    pub(super) fn map<U>(self, make: impl FnMut(T) -> U) -> Page<U> {
        Page { items: self.items.into_iter().map(make).collect(), next: self.next }
    }

    /// A list that is never longer than a page.
    pub(super) fn whole(items: Vec<T>) -> Self {
        Self { items, next: None }
    }
}

/// Where an item stands: by time, then by id.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Place {
    pub(crate) at: OffsetDateTime,
    pub(crate) id: String,
}

impl Place {
    pub(crate) fn cursor(&self) -> String {
        let text = format!("{} {}", self.at.unix_timestamp_nanos(), self.id);
        URL_SAFE_NO_PAD.encode(text)
    }

    pub(crate) fn parse(cursor: &str) -> Result<Self, &'static str> {
        const WRONG: &str = "is not a cursor of this list";
        let bytes = URL_SAFE_NO_PAD.decode(cursor).map_err(|_| WRONG)?;
        let text = String::from_utf8(bytes).map_err(|_| WRONG)?;
        let (nanos, id) = text.split_once(' ').ok_or(WRONG)?;
        let at = nanos.parse().ok().and_then(Moment::of_nanos).ok_or(WRONG)?;
        // No list's ids have control characters; PostgreSQL's texts hold no NUL.
        if id.contains(char::is_control) { Err(WRONG) } else { Ok(Self { at: at.get(), id: id.to_owned() }) }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    proptest! {
        #[test]
        fn a_cursor_comes_back_as_it_was(micros in 946_684_800_000_000i128..7_258_118_400_000_000, id in "[0-9a-z-]{1,36}") {
            let at = OffsetDateTime::from_unix_timestamp_nanos(micros * 1_000).unwrap();
            let place = Place { at, id };
            prop_assert_eq!(Place::parse(&place.cursor()), Ok(place));
        }

        #[test]
        fn any_text_as_a_cursor_is_answered(text in ".{0,60}") {
            let _ = Place::parse(&text);
        }
    }

    #[test]
    fn only_a_full_page_with_more_behind_it_has_a_next() {
        let place =
            |n: &i64| Place { at: OffsetDateTime::from_unix_timestamp(1_800_000_000 + *n).unwrap(), id: n.to_string() };
        assert!(Page::cut((0..50).collect(), place).next.is_none());
        let page = Page::cut((0..51).collect(), place);
        assert_eq!(page.items.len(), 50);
        assert_eq!(Place::parse(&page.next.unwrap()), Ok(place(&49)));
    }
}
