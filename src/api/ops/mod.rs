//! What operators and viewers reach over HTTP: all that the console and the command line can do, one file per resource.

mod case;
mod dead_letter_acts;
mod dead_letter_replays;
mod dead_letters;
mod doubt;
mod errors;
mod events;
mod invariants;
mod orders;
pub(super) mod overrides;
mod overview;
mod queues;
mod reconciliations;
mod schedule_new;
mod schedules;
mod timeline;
mod wechat_refunds;

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
        .routes(routes!(doubt::list))
        .routes(routes!(errors::list))
        .routes(routes!(invariants::ask))
        .routes(routes!(timeline::one))
        .routes(routes!(wechat_refunds::take))
        .routes(routes!(case::list))
        .routes(routes!(case::one))
        .routes(routes!(case::close))
        .routes(routes!(overrides::list, overrides::propose))
        .routes(routes!(overrides::one))
        .routes(routes!(overrides::approve))
        .routes(routes!(overrides::withdraw))
        .routes(routes!(schedules::list, schedule_new::add))
        .routes(routes!(schedules::one))
        .routes(routes!(schedules::cancel))
        .routes(routes!(reconciliations::list))
        .routes(routes!(reconciliations::one))
}
