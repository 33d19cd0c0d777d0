//! What operators and viewers reach over HTTP: all that the console and the command line can do, one file per resource.

mod dead_letter_acts;
mod dead_letter_replays;
mod dead_letters;
mod doubt;
mod events;
mod invariants;
mod orders;
mod overview;
mod queues;
mod schedules;

use utoipa_axum::{router::OpenApiRouter, routes};

use super::Api;
pub(super) use overview::Overviews;

/// The operators' part of the surface.
pub(super) fn documented() -> OpenApiRouter<Api> {
    OpenApiRouter::new()
        .routes(routes!(dead_letters::list))
        .routes(routes!(dead_letters::groups))
        .routes(routes!(dead_letters::one))
        .routes(routes!(dead_letters::wechat))
        .routes(routes!(dead_letter_acts::list))
        .routes(routes!(dead_letter_acts::discard))
        .routes(routes!(dead_letter_acts::restore))
        .routes(routes!(dead_letter_acts::note))
        .routes(routes!(dead_letter_replays::plan, dead_letter_replays::list))
        .routes(routes!(dead_letter_replays::one))
        .routes(routes!(dead_letter_replays::items))
        .routes(routes!(dead_letter_replays::start))
        .routes(routes!(dead_letter_replays::pause))
        .routes(routes!(dead_letter_replays::cancel))
        .routes(routes!(queues::list))
        .routes(routes!(events::events))
        .routes(routes!(orders::list))
        .routes(routes!(orders::one))
        .routes(routes!(schedules::list))
        .routes(routes!(schedules::seats))
        .routes(routes!(doubt::list))
        .routes(routes!(invariants::ask))
}
