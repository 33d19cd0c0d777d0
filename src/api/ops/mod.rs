//! What operators and viewers reach over HTTP: all that the console and the command line can do, one file per resource.

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
        .routes(routes!(queues::list))
        .routes(routes!(events::events))
        .routes(routes!(orders::list))
        .routes(routes!(orders::one))
        .routes(routes!(schedules::list))
        .routes(routes!(schedules::seats))
        .routes(routes!(doubt::list))
        .routes(routes!(invariants::ask))
}
