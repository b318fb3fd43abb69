// SPDX-License-Identifier: Apache-2.0
// reqwest on tokio: the first argument's body on standard output.
use std::io::Write;

#[tokio::main]
async fn main() -> Result<(), Box<dyn std::error::Error>> {
    let url = std::env::args().nth(1).expect("an address");
    let body = reqwest::get(url).await?.error_for_status()?.bytes().await?;
    std::io::stdout().write_all(&body)?;
    Ok(())
}
