//! The contact sheet of one class: its most confident right and wrong images with their captions, as one picture.

use crate::lettering::{Lettering, fit};
use crate::sheet::{Sheet, Tile};
use image::imageops::{self, FilterType};
use image::{Rgb, RgbImage};

/// Side of the square that an image is fitted into, in pixels: the usual input size of the networks.
pub(crate) const TILE_SIDE: u32 = 224;
const COLUMNS: usize = 4;
const GAP: u32 = 16;
const MARGIN: u32 = 24;
const PAPER: Rgb<u8> = Rgb([255; 3]);
const INK: [u8; 3] = [20, 20, 20];
const FAINT_INK: [u8; 3] = [90, 90, 90];

/// The tile's picture scaled to fit a square of `TILE_SIDE`, proportions kept. `enlarge` says whether a smaller one is
/// scaled up. `tile` has passed [`Tile::check`].
pub(crate) fn fitted(tile: &Tile, enlarge: bool) -> RgbImage {
    let picture = tile.to_rgb();
    let longest = picture.width().max(picture.height());
    if longest == TILE_SIDE || longest < TILE_SIDE && !enlarge {
        return picture;
    }
    let side = |pixels: u32| {
        let scaled = (u64::from(pixels) * u64::from(TILE_SIDE) + u64::from(longest) / 2) / u64::from(longest);
        // Never more than `TILE_SIDE`, because `pixels <= longest`.
        (scaled as u32).max(1)
    };
    imageops::resize(&picture, side(picture.width()), side(picture.height()), FilterType::Triangle)
}

/// Draws the whole sheet. Every tile has passed [`Tile::check`].
pub(crate) fn draw(split: &str, sheet: &Sheet) -> RgbImage {
    let columns = COLUMNS.min(sheet.best.len().max(sheet.worst.len())).max(2) as u32;
    let width = 2 * MARGIN + columns * TILE_SIDE + (columns - 1) * GAP;
    let groups = [("most confident right", &sheet.best), ("most confident wrong", &sheet.worst)]
        .map(|(title, tiles)| Group::new(title, tiles, columns as usize));
    let titles = fit(
        &format!("{split}: images of class {}", sheet.class),
        Lettering::TITLE.characters_in(width - 2 * MARGIN),
        2,
    );
    let title_height = titles.len() as u32 * Lettering::TITLE.line_height();
    let height = 2 * MARGIN + title_height + groups.iter().map(|group| GAP + group.height()).sum::<u32>();

    let mut canvas = RgbImage::from_pixel(width, height, PAPER);
    let mut top = MARGIN;
    for line in &titles {
        Lettering::TITLE.draw(&mut canvas, MARGIN, top, line, INK);
        top += Lettering::TITLE.line_height();
    }
    for group in &groups {
        group.draw(&mut canvas, top + GAP);
        top += GAP + group.height();
    }
    canvas
}

struct Group<'a> {
    title: &'static str,
    rows: Vec<Row<'a>>,
}

struct Row<'a> {
    tiles: Vec<(&'a Tile, Vec<String>)>,
    caption_lines: usize,
}

impl<'a> Group<'a> {
    fn new(title: &'static str, tiles: &'a [Tile], columns: usize) -> Group<'a> {
        let rows = tiles.chunks(columns).map(|tiles| {
            let tiles: Vec<_> = tiles.iter().map(|tile| (tile, caption_lines(tile))).collect();
            let caption_lines = tiles.iter().map(|(_, lines)| lines.len()).max().unwrap_or(0);
            Row { tiles, caption_lines }
        });
        Group { title, rows: rows.collect() }
    }

    fn height(&self) -> u32 {
        let captions = Lettering::CAPTION.line_height();
        let body = match self.rows.as_slice() {
            [] => captions,
            rows => rows.iter().map(|row| GAP / 2 + TILE_SIDE + row.caption_lines as u32 * captions).sum(),
        };
        Lettering::TITLE.line_height() + body
    }

    fn draw(&self, canvas: &mut RgbImage, mut top: u32) {
        Lettering::TITLE.draw(canvas, MARGIN, top, self.title, INK);
        top += Lettering::TITLE.line_height();
        if self.rows.is_empty() {
            Lettering::CAPTION.draw(canvas, MARGIN, top, "none", FAINT_INK);
        }
        for row in &self.rows {
            top += GAP / 2;
            for (column, (tile, lines)) in row.tiles.iter().enumerate() {
                let left = MARGIN + column as u32 * (TILE_SIDE + GAP);
                let picture = fitted(tile, true);
                let (inset_x, inset_y) = ((TILE_SIDE - picture.width()) / 2, (TILE_SIDE - picture.height()) / 2);
                imageops::replace(canvas, &picture, i64::from(left + inset_x), i64::from(top + inset_y));
                for (index, line) in lines.iter().enumerate() {
                    let y = top + TILE_SIDE + 2 + index as u32 * Lettering::CAPTION.line_height();
                    Lettering::CAPTION.draw(canvas, left, y, line, if index == 0 { INK } else { FAINT_INK });
                }
            }
            top += TILE_SIDE + row.caption_lines as u32 * Lettering::CAPTION.line_height();
        }
    }
}

fn caption_lines(tile: &Tile) -> Vec<String> {
    let width = Lettering::CAPTION.characters_in(TILE_SIDE);
    let mut lines = fit(tile.file_name(), width, 2);
    lines.extend(fit(&tile.patient(), width, 1));
    lines.extend(fit(&tile.verdict(), width, 2));
    lines.extend(tile.caption.iter().flat_map(|line| fit(line, width, 1)));
    lines
}
