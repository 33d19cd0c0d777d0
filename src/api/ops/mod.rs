//! What operators and viewers reach over HTTP: all that the console and the command line can do, one file per resource.

mod reconciliations;

use utoipa_axum::{router::OpenApiRouter, routes};

use super::Api;

/// The operators' part of the surface.
pub(super) fn documented() -> OpenApiRouter<Api> {
    OpenApiRouter::new().routes(routes!(reconciliations::list)).routes(routes!(reconciliations::one))
}
