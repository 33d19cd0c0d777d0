//! The payment QR code: both pictures of it show the same modules, and those say the `code_url`.

use fast_qr::{ECL, QRBuilder};
use reqwest::{Method, RequestBuilder, StatusCode};

use crate::stack::{Answer, Choice, Stack};

fn request(stack: &Stack, token: &str, order: &str, kind: &str) -> RequestBuilder {
    stack.request(Method::GET, &format!("/v1/orders/{order}/qr.{kind}")).bearer_auth(token)
}

/// The picture's media type and bytes.
async fn code(stack: &Stack, token: &str, order: &str, kind: &str) -> (String, Vec<u8>) {
    let answer = request(stack, token, order, kind).send().await.expect("an answer");
    assert_eq!(answer.status(), StatusCode::OK);
    let media_type = answer.headers()["content-type"].to_str().expect("visible").to_owned();
    (media_type, answer.bytes().await.expect("bytes").to_vec())
}

async fn assert_not_payable(stack: &Stack, token: &str, order: &str, kind: &str) {
    let answer = Answer::of(request(stack, token, order, kind)).await;
    assert_eq!((answer.status, answer.problem()), (StatusCode::CONFLICT, "not-payable"));
}

/// Dark modules of the drawn code, quiet zone included, from the path's runs `Mx yhNv1h-Nz`.
fn modules_of_svg(svg: &str) -> (usize, Vec<Vec<bool>>) {
    let side: usize = svg.split("viewBox=\"0 0 ").nth(1).unwrap().split(' ').next().unwrap().parse().expect("a side");
    let mut modules = vec![vec![false; side]; side];
    let path = svg.rsplit(" d=\"").next().expect("a path").split('"').next().expect("its end");
    for run in path.split('z').filter(|run| !run.is_empty()) {
        let numbers: Vec<usize> =
            run[1..].split([' ', 'h', 'v', '-']).filter_map(|number| number.parse().ok()).collect();
        let [x, y, length, 1, back] = numbers[..] else { panic!("{run}") };
        assert_eq!(length, back);
        modules[y][x..x + length].fill(true);
    }
    (side, modules)
}

/// The same from the PNG's pixels, each module checked to be of one colour; and how many pixels one has.
fn modules_of_png(png: &[u8], side: usize) -> (usize, Vec<Vec<bool>>) {
    let mut decoder = png::Decoder::new(std::io::Cursor::new(png));
    decoder.set_transformations(png::Transformations::EXPAND);
    let mut reader = decoder.read_info().expect("a PNG");
    let mut pixels = vec![0; reader.output_buffer_size().expect("small")];
    let info = reader.next_frame(&mut pixels).expect("pixels");
    assert_eq!((info.width, info.color_type), (info.height, png::ColorType::Grayscale));
    let scale = info.width as usize / side;
    assert_eq!(scale * side, info.width as usize);
    let dark = |x: usize, y: usize| pixels[y * info.line_size + x] == 0;
    let modules = (0..side).map(|y| (0..side).map(|x| dark(x * scale, y * scale)).collect()).collect::<Vec<Vec<_>>>();
    for y in 0..side * scale {
        for x in 0..side * scale {
            assert_eq!(dark(x, y), modules[y / scale][x / scale], "({x}, {y})");
        }
    }
    (scale, modules)
}

#[tokio::test]
async fn s2_3_the_qr_code_says_the_code_url_and_ends_with_the_order() {
    let mut stack = Stack::start_with("reading-qr", Choice { roles: vec!["api", "seats"], ..Choice::default() }).await;
    let schedule = stack.add_schedule(1).await;
    let ann = stack.quick_token("ann");
    let order = stack.submit(&ann, &schedule).await;
    stack.until_status(&ann, &order, "held").await;
    for kind in ["svg", "png"] {
        assert_not_payable(&stack, &ann, &order, kind).await;
    }

    stack.spawn("prepay");
    let payable = stack.until_status(&ann, &order, "awaiting_payment").await;
    let (svg_type, svg) = code(&stack, &ann, &order, "svg").await;
    let (png_type, png) = code(&stack, &ann, &order, "png").await;
    assert_eq!((svg_type.as_str(), png_type.as_str()), ("image/svg+xml", "image/png"));
    let (side, drawn) = modules_of_svg(std::str::from_utf8(&svg).expect("UTF-8"));
    let (scale, painted) = modules_of_png(&png, side);
    assert_eq!(drawn, painted);
    assert!(scale >= 8, "crisp on a phone: {scale} pixels per module");

    let code_url = payable["code_url"].as_str().expect("a code_url");
    let code = QRBuilder::new(code_url).ecl(ECL::M).build().expect("a code");
    let quiet = (side - code.size) / 2;
    assert_eq!((quiet, side), (4, code.size + 8));
    for (y, row) in drawn.iter().enumerate() {
        for (x, dark) in row.iter().enumerate() {
            let inside = (quiet..side - quiet).contains(&x) && (quiet..side - quiet).contains(&y);
            assert_eq!(*dark, inside && code[y - quiet][x - quiet].value(), "({x}, {y})");
        }
    }

    stack.spawn("payments");
    stack.pay(&order).await;
    stack.until_status(&ann, &order, "confirmed").await;
    assert_not_payable(&stack, &ann, &order, "svg").await;
}
