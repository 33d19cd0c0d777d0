//! `GET /v1/orders/{id}/qr.svg` and `…/qr.png`: what the customer scans to pay.

use axum::{
    extract::{Path, State},
    http::header,
    response::{IntoResponse, Response},
};
use fast_qr::{ECL, QRBuilder, QRCode};

use super::{
    Api, Inner,
    auth::Caller,
    order_follow::own_order,
    problem::{Kind, Problem, ProblemDocument},
};
use crate::domain::order::Status;

/// The light border that a reader needs around the code (ISO/IEC 18004).
const QUIET_MODULES: usize = 4;
/// Pixels per module: crisp on a phone's dense screen.
const PNG_SCALE: usize = 10;

/// The payment QR code as SVG
#[utoipa::path(
    get, path = "/v1/orders/{id}/qr.svg", tag = "orders", security(("bearer" = ["owner"])),
    params(("id" = String, Path)),
    responses(
        (status = 200, description = "The code", body = String, content_type = "image/svg+xml"),
        (status = 404, description = "`no-such-order`, also for other people's", body = ProblemDocument, content_type = "application/problem+json"),
        (status = 409, description = "`not-payable`", body = ProblemDocument, content_type = "application/problem+json"),
    )
)]
pub(super) async fn svg(State(api): State<Api>, caller: Caller, Path(id): Path<String>) -> Result<Response, Problem> {
    let code = payable_code(&api, &caller, &id).await?;
    Ok(([(header::CONTENT_TYPE, "image/svg+xml")], draw_svg(&code)).into_response())
}

/// The payment QR code as PNG
#[utoipa::path(
    get, path = "/v1/orders/{id}/qr.png", tag = "orders", security(("bearer" = ["owner"])),
    params(("id" = String, Path)),
    responses(
        (status = 200, description = "The code", body = String, content_type = "image/png"),
        (status = 404, description = "`no-such-order`, also for other people's", body = ProblemDocument, content_type = "application/problem+json"),
        (status = 409, description = "`not-payable`", body = ProblemDocument, content_type = "application/problem+json"),
    )
)]
pub(super) async fn png(State(api): State<Api>, caller: Caller, Path(id): Path<String>) -> Result<Response, Problem> {
    let code = payable_code(&api, &caller, &id).await?;
    let image = draw_png(&code).map_err(|error| {
        tracing::error!(%error, "a QR code could not be written as PNG");
        Problem::new(Kind::Internal)
    })?;
    Ok(([(header::CONTENT_TYPE, "image/png")], image).into_response())
}

/// The code of an order that waits for payment. It ends with the order: past `pay_before` there is none.
async fn payable_code(api: &Inner, caller: &Caller, id: &str) -> Result<QRCode, Problem> {
    let order = own_order(api, caller, id).await?.document;
    let late = order.pay_before.is_some_and(|end| end <= (api.now)());
    let code_url = order.code_url.filter(|_| order.status.is_payable() && !late).ok_or_else(|| {
        let why = match order.status {
            Status::Submitted | Status::Held => "There is no code yet.",
            _ if late => "The time to pay is over.",
            _ => "The order does not wait for payment.",
        };
        Problem::new(Kind::NotPayable).detail(why)
    })?;
    // M mends 15 % of the code: enough for a screen, and coarser modules scan better than more redundancy.
    QRBuilder::new(code_url).ecl(ECL::M).build().map_err(|error| {
        tracing::error!(?error, "a code_url does not fit into a QR code");
        Problem::new(Kind::Internal)
    })
}

/// Whether the module at (x, y), quiet zone included, is dark.
fn is_dark(code: &QRCode, x: usize, y: usize) -> bool {
    let inside = |at: usize| at.checked_sub(QUIET_MODULES).filter(|at| *at < code.size);
    inside(x).zip(inside(y)).is_some_and(|(x, y)| code[y][x].value())
}

/// One path of horizontal runs: a tenth of the size of a square per module, and no hairlines between them.
fn draw_svg(code: &QRCode) -> String {
    use std::fmt::Write as _;
    let side = code.size + 2 * QUIET_MODULES;
    let mut path = String::new();
    for y in 0..side {
        let mut x = 0;
        while x < side {
            let run = (x..side).take_while(|x| is_dark(code, *x, y)).count();
            if run > 0 {
                write!(path, "M{x} {y}h{run}v1h-{run}z").expect("a string takes everything");
            }
            x += run.max(1);
        }
    }
    format!(
        r##"<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {side} {side}" width="{0}" height="{0}" shape-rendering="crispEdges" role="img" aria-label="QR"><path fill="#fff" d="M0 0h{side}v{side}H0z"/><path d="{path}"/></svg>"##,
        side * PNG_SCALE
    )
}

/// One bit per pixel.
fn draw_png(code: &QRCode) -> Result<Vec<u8>, png::EncodingError> {
    let side = (code.size + 2 * QUIET_MODULES) * PNG_SCALE;
    let row_bytes = side.div_ceil(8);
    let mut pixels = vec![0u8; row_bytes * side];
    for (y, row) in pixels.chunks_exact_mut(row_bytes).enumerate() {
        for x in 0..side {
            if !is_dark(code, x / PNG_SCALE, y / PNG_SCALE) {
                row[x / 8] |= 0x80 >> (x % 8);
            }
        }
    }
    let mut image = Vec::new();
    let pixels_wide = u32::try_from(side).expect("a QR code has at most 177 modules");
    let mut encoder = png::Encoder::new(&mut image, pixels_wide, pixels_wide);
    encoder.set_color(png::ColorType::Grayscale);
    encoder.set_depth(png::BitDepth::One);
    encoder.write_header()?.write_image_data(&pixels)?;
    Ok(image)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn code() -> QRCode {
        let url = "weixin://wxpay/bizpayurl/up?pr=NwY5Mz9&groupid=00";
        QRBuilder::new(url).ecl(ECL::M).build().unwrap()
    }

    #[test]
    fn s2_3_the_png_shows_every_module_and_the_quiet_zone() {
        let code = code();
        let image = draw_png(&code).unwrap();
        let mut reader = png::Decoder::new(std::io::Cursor::new(image)).read_info().unwrap();
        let mut pixels = vec![0; reader.output_buffer_size().unwrap()];
        let info = reader.next_frame(&mut pixels).unwrap();
        let side = (code.size + 2 * QUIET_MODULES) * PNG_SCALE;
        assert_eq!((info.width as usize, info.height as usize), (side, side));
        for y in (0..side).step_by(PNG_SCALE / 2) {
            for x in (0..side).step_by(PNG_SCALE / 2) {
                let light = pixels[y * info.line_size + x / 8] & (0x80 >> (x % 8)) != 0;
                assert_eq!(light, !is_dark(&code, x / PNG_SCALE, y / PNG_SCALE), "({x}, {y})");
            }
        }
        let edge = QUIET_MODULES - 1;
        assert!((0..code.size).all(|at| !is_dark(&code, at, edge) && !is_dark(&code, edge, at)));
        // The finder pattern begins right after the quiet zone.
        assert!(is_dark(&code, QUIET_MODULES, QUIET_MODULES));
    }

    #[test]
    fn s2_3_the_svg_covers_as_many_modules_as_the_code_has_dark_ones() {
        let code = code();
        let svg = draw_svg(&code);
        let drawn: usize =
            svg.split('h').skip(1).filter_map(|part| part.split_once('v')?.0.parse::<usize>().ok()).sum();
        let side = code.size + 2 * QUIET_MODULES;
        let dark =
            (0..side).flat_map(|y| (0..side).map(move |x| (x, y))).filter(|(x, y)| is_dark(&code, *x, *y)).count();
        // The white ground is one run of the full width.
        assert_eq!(drawn, dark + side);
    }
}
