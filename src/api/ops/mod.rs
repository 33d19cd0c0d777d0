//! What operators and viewers reach over HTTP: all that the console and the command line can do, one file per resource.

mod case;
mod overrides;
mod reconciliations;
mod schedule_new;
mod schedules;
mod timeline;

use utoipa_axum::{router::OpenApiRouter, routes};

use super::Api;

/// The operators' part of the surface.
pub(super) fn documented() -> OpenApiRouter<Api> {
    OpenApiRouter::new()
        .routes(routes!(timeline::one))
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
