//! A network as an ONNX file: the same graph in ONNX's words, f32 weights, any batch size.
//!
//! Field numbers are those of `onnx.proto3`, ONNX 1.12 (IR version 8, operator set 17), which every runtime since 2022
//! reads.

use super::protobuf::Message;
use roentgen_nn::network::Value;
use roentgen_nn::{FeatureShape, Network, Op, ParameterSet, ParameterStore, TensorKind, ValueId};
use std::collections::HashMap;

const IR_VERSION: i64 = 8;
const OPERATOR_SET: i64 = 17;
/// `TensorProto.DataType.FLOAT`.
const FLOAT: i64 = 1;

/// Name of the input, `[batch, 3, S, S]`: the normalised image.
pub(super) const INPUT: &str = "input";
/// Name of the first output, `[batch, classes]`.
pub(super) const LOGITS: &str = "logits";
/// Name of the second output, `[batch, classes]`: the softmax of the first.
pub(super) const PROBABILITIES: &str = "probabilities";

/// Matrices that an adaptive average pooling is computed with, where it is no plain pooling; see [`adaptive_rows`].
pub(super) struct PoolingMatrices {
    by_name: Vec<(String, [usize; 2], Vec<f32>)>,
}

impl PoolingMatrices {
    /// All that a network needs.
    pub(super) fn new(network: &Network) -> PoolingMatrices {
        let mut by_name = Vec::new();
        for id in network.ids() {
            let value = network.value(id);
            let Op::AdaptiveAvgPool2d { height, width } = value.op else { continue };
            let from = network.value(value.inputs[0]).shape;
            if plain_pooling(from, height, width).is_some() {
                continue;
            }
            by_name.push((format!("{}.rows", value.name), [height, from.height], adaptive_rows(from.height, height)));
            // Applied from the right, so transposed.
            let columns = adaptive_rows(from.width, width);
            let transposed = (0..from.width).flat_map(|i| (0..width).map(move |o| (i, o)));
            let transposed = transposed.map(|(i, o)| columns[o * from.width + i]).collect();
            by_name.push((format!("{}.columns", value.name), [from.width, width], transposed));
        }
        PoolingMatrices { by_name }
    }
}

/// The file's content. Metadata are pairs of key and text.
pub(super) fn model<'a>(
    network: &Network,
    store: &'a ParameterStore,
    matrices: &'a PoolingMatrices,
    metadata: &[(String, String)],
) -> Message<'a> {
    let operator_set = Message::default().text(1, "").integer(2, OPERATOR_SET);
    let model = Message::default()
        .integer(1, IR_VERSION)
        .text(2, "roentgen")
        .text(3, env!("CARGO_PKG_VERSION"))
        .message(7, graph(network, store, matrices))
        .message(8, operator_set);
    metadata.iter().fold(model, |model, (key, text)| model.message(14, Message::default().text(1, key).text(2, text)))
}

fn graph<'a>(network: &Network, store: &'a ParameterStore, matrices: &'a PoolingMatrices) -> Message<'a> {
    let mut graph = Message::default();
    // What a value is called in the file: an operation without effect passes its input's name on.
    let mut names: HashMap<ValueId, String> = HashMap::new();
    for id in network.ids() {
        let value = network.value(id);
        let inputs: Vec<&str> = value.inputs.iter().map(|input| names[input].as_str()).collect();
        let output = match id {
            _ if id == network.input() => INPUT.to_owned(),
            _ if id == network.output() => LOGITS.to_owned(),
            _ => value.name.clone(),
        };
        let (nodes, output) = nodes(network, value, &inputs, output);
        graph = nodes.into_iter().fold(graph, |graph, node| graph.message(1, node));
        names.insert(id, output);
    }
    let softmax = node("Softmax", PROBABILITIES, &[LOGITS], PROBABILITIES).message(5, integer_attribute("axis", 1));
    graph = graph.message(1, softmax).text(2, network.architecture());

    for (index, spec) in store.specs().iter().enumerate() {
        // A counter of batches has no part in what is computed.
        if spec.kind != TensorKind::Counter {
            graph = graph.message(5, tensor(&spec.name, &spec.shape, store.tensor(ParameterSet::Live, index)));
        }
    }
    for (name, shape, values) in &matrices.by_name {
        graph = graph.message(5, tensor(name, shape, values));
    }

    let side = network.image_size();
    let classes = network.classes();
    graph
        .message(11, batch_of(INPUT, &[3, side, side]))
        .message(12, batch_of(LOGITS, &[classes]))
        .message(12, batch_of(PROBABILITIES, &[classes]))
}

/// The nodes that compute a value, and the name of what they give: `output`, or the input's where nothing is to be done.
fn nodes<'a>(network: &Network, value: &Value, inputs: &[&str], output: String) -> (Vec<Message<'a>>, String) {
    let name = &value.name;
    let with = |parts: &[&str]| -> Vec<String> {
        inputs.iter().map(|input| input.to_string()).chain(parts.iter().map(|part| format!("{name}.{part}"))).collect()
    };
    let one = |operator: &str, inputs: &[String]| {
        let inputs: Vec<&str> = inputs.iter().map(String::as_str).collect();
        node(operator, name, &inputs, &output)
    };
    let node = match value.op {
        Op::Input => return (vec![], output),
        // In evaluation it does nothing.
        Op::Dropout { .. } => return (vec![], inputs[0].to_owned()),
        Op::Conv2d { kernel, stride, padding, bias, .. } => {
            let parts: &[&str] = if bias { &["weight", "bias"] } else { &["weight"] };
            window(one("Conv", &with(parts)), [kernel; 2], [stride; 2], padding)
        }
        Op::BatchNorm2d { epsilon, .. } => {
            one("BatchNormalization", &with(&["weight", "bias", "running_mean", "running_var"]))
                .message(5, Message::default().text(1, "epsilon").float(2, epsilon).integer(20, 1))
        }
        Op::Relu => one("Relu", &with(&[])),
        Op::Add => one("Add", &with(&[])),
        Op::MaxPool2d { kernel, stride, padding } => {
            window(one("MaxPool", &with(&[])), [kernel; 2], [stride; 2], padding)
        }
        Op::AdaptiveAvgPool2d { height, width } => {
            let from = network.value(value.inputs[0]).shape;
            match plain_pooling(from, height, width) {
                Some([1, 1]) => return (vec![], inputs[0].to_owned()),
                Some(kernel) => window(one("AveragePool", &with(&[])), kernel, kernel, 0),
                None => {
                    let (rows, columns, pooled) =
                        (format!("{name}.rows"), format!("{name}.columns"), format!("{name}.pooled_rows"));
                    return (
                        vec![
                            self::node("MatMul", &pooled, &[&rows, inputs[0]], &pooled),
                            self::node("MatMul", name, &[&pooled, &columns], &output),
                        ],
                        output,
                    );
                }
            }
        }
        Op::Flatten => one("Flatten", &with(&[])).message(5, integer_attribute("axis", 1)),
        Op::Linear { .. } => one("Gemm", &with(&["weight", "bias"])).message(5, integer_attribute("transB", 1)),
    };
    (vec![node], output)
}

/// The kernel of the plain average pooling that an adaptive one is, where all its windows are alike and side by side.
fn plain_pooling(from: FeatureShape, height: usize, width: usize) -> Option<[usize; 2]> {
    let alike = from.height.is_multiple_of(height) && from.width.is_multiple_of(width);
    alike.then(|| [from.height / height, from.width / width])
}

/// `torch.nn.AdaptiveAvgPool2d` along one axis as a matrix `[to, from]`: output o is the mean of the inputs from
/// `floor(o * from / to)` up to `ceil((o + 1) * from / to)`. Pooling is this along the rows, then along the columns.
fn adaptive_rows(from: usize, to: usize) -> Vec<f32> {
    let mut matrix = vec![0.0; to * from];
    for (o, row) in matrix.chunks_exact_mut(from).enumerate() {
        let window = o * from / to..((o + 1) * from).div_ceil(to);
        let share = 1.0 / window.len() as f32;
        row[window].fill(share);
    }
    matrix
}

fn node<'a>(operator: &str, name: &str, inputs: &[&str], output: &str) -> Message<'a> {
    let node = inputs.iter().fold(Message::default(), |node, input| node.text(1, input));
    node.text(2, output).text(3, name).text(4, operator)
}

/// Adds the attributes that convolutions and poolings have.
fn window<'a>(node: Message<'a>, kernel: [usize; 2], stride: [usize; 2], padding: usize) -> Message<'a> {
    node.message(5, integers_attribute("kernel_shape", &kernel))
        .message(5, integers_attribute("strides", &stride))
        .message(5, integers_attribute("pads", &[padding; 4]))
}

fn integer_attribute<'a>(name: &str, value: i64) -> Message<'a> {
    Message::default().text(1, name).integer(3, value).integer(20, 2)
}

fn integers_attribute<'a>(name: &str, values: &[usize]) -> Message<'a> {
    let attribute = Message::default().text(1, name);
    values.iter().fold(attribute, |attribute, &value| attribute.integer(8, value as i64)).integer(20, 7)
}

fn tensor<'a>(name: &str, shape: &[usize], values: &'a [f32]) -> Message<'a> {
    let sizes = shape.iter().fold(Message::default(), |tensor, &size| tensor.integer(1, size as i64));
    sizes.integer(2, FLOAT).text(8, name).floats(9, values)
}

/// What goes in or comes out: `[batch, sizes...]`, where the batch may be any.
fn batch_of<'a>(name: &str, sizes: &[usize]) -> Message<'a> {
    let batch = Message::default().message(1, Message::default().text(2, "batch"));
    let shape = sizes.iter().fold(batch, |shape, &size| shape.message(1, Message::default().integer(1, size as i64)));
    let kind = Message::default().message(1, Message::default().integer(1, FLOAT).message(2, shape));
    Message::default().text(1, name).message(2, kind)
}

#[cfg(test)]
mod tests {
    use super::adaptive_rows;

    #[test]
    fn windows_of_an_adaptive_pooling_are_pytorchs() {
        // torch.nn.functional.adaptive_avg_pool1d over the unit vectors.
        let third = 1.0 / 3.0;
        assert_eq!(adaptive_rows(5, 3), [0.5, 0.5, 0., 0., 0., 0., third, third, third, 0., 0., 0., 0., 0.5, 0.5]);
        assert_eq!(adaptive_rows(2, 3), [1., 0., 0.5, 0.5, 0., 1.]);
        assert_eq!(adaptive_rows(1, 2), [1., 1.]);
    }
}
