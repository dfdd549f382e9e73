//! The contact sheets of an evaluation: the best and worst images of each class, with heat maps.

use super::answers::{Answering, Question};
use crate::display::displayed;
use crate::failure::{Failure, Outcome};
use roentgen_data::{Limits, decode};
use roentgen_eval::best_and_worst;
use roentgen_infer::explain::{ExplainError, Explainer, Method};
use roentgen_infer::{ModelError, ModelFile};
use roentgen_nn::{EngineError, Network};
use roentgen_report::{HeatPicture, Sheet, Tile};
use roentgen_run::predictions::PredictionTable;

/// Longest side of a picture on a contact sheet, in pixels.
const TILE_SIDE: usize = 224;

/// The images that the model was surest about, right and wrong, with what spoke for the predicted class.
pub fn sheets(
    answering: &Answering,
    file: &ModelFile,
    table: &PredictionTable,
    question: &Question,
    count: usize,
) -> Outcome<Vec<Sheet>> {
    let Question { manifest, rows, .. } = question;
    let labels: Vec<usize> = table.rows.iter().filter_map(|row| row.label).collect();
    let predicted: Vec<usize> = table.rows.iter().map(|row| row.predicted).collect();
    let probabilities: Vec<f32> = table.rows.iter().flat_map(|row| row.probabilities.clone()).collect();
    let rankings = best_and_worst(&labels, &predicted, &probabilities, table.classes.len(), count)?;
    let mut explaining = match rankings.iter().any(|ranking| !ranking.best.is_empty() || !ranking.worst.is_empty()) {
        true => explainer(answering, &file.network)?.map(|explainer| Ok((explainer, file.load()?.store))),
        false => None,
    }
    .transpose()
    .map_err(|error: ModelError| Failure::from(error))?;
    let mut tile = |&index: &usize| -> Outcome<Tile> {
        let prediction = &table.rows[index];
        let row = &manifest.rows[rows[index]];
        let image = decode(&manifest.path_of(rows[index]), &Limits::default())?;
        let (pixels, width, height) = displayed(&image, TILE_SIDE);
        let heat_map = match &mut explaining {
            None => None,
            Some((explainer, store)) => {
                let map = explainer.explain(store, &image, Some(prediction.predicted))?.map;
                let (evidence, largest) = (map.evidence_over(width, height), map.largest());
                Some(HeatPicture { pixels: pixels.clone(), width, height, evidence, largest }.blended()?)
            }
        };
        Ok(Tile {
            pixels,
            width,
            height,
            heat_map,
            path: prediction.path.clone(),
            patient_id: prediction.patient_id.clone(),
            probability: prediction.probabilities[prediction.predicted],
            actual: table.classes[labels[index]].clone(),
            predicted: table.classes[prediction.predicted].clone(),
            caption: row.finding.iter().filter(|finding| **finding != table.classes[labels[index]]).cloned().collect(),
        })
    };
    let mut sheets = Vec::new();
    for (class, ranking) in table.classes.iter().zip(rankings) {
        sheets.push(Sheet {
            class: class.clone(),
            best: ranking.best.iter().map(&mut tile).collect::<Result<_, _>>()?,
            worst: ranking.worst.iter().map(&mut tile).collect::<Result<_, _>>()?,
        });
    }
    Ok(sheets)
}

/// What makes the heat maps of the best and worst images; `None`, said on stderr, where images are too small for a map
/// or memory does not suffice: an evaluation is whole without them.
fn explainer(answering: &Answering, network: &Network) -> Outcome<Option<Explainer>> {
    let (arithmetic, memory) = (answering.arithmetic(), answering.memory_limit_bytes);
    match Explainer::new(&answering.engine, network, Method::GradCam, None, arithmetic, memory) {
        Ok(explainer) => Ok(Some(explainer)),
        Err(ExplainError::NoMap { module, shape, image_size }) => {
            eprintln!(
                "note: no heat maps beside the best and worst images: at {image_size} px `{module}` gives {shape}, \
                 which is no map; `roentgen explain --module NAME` makes them of an earlier module"
            );
            Ok(None)
        }
        Err(error @ ExplainError::Engine(EngineError::Memory { .. })) => {
            eprintln!("note: no heat maps beside the best and worst images: {error}");
            Ok(None)
        }
        Err(error) => Err(error.into()),
    }
}
