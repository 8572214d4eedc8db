//! The two functions: what they are asked, and what the right answer is, found without them.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use serde_json::{Value, json};
use sha2::{Digest as _, Sha256};

/// A function to freeze and call.
pub(super) struct Function {
    pub(super) name: &'static str,
    pub(super) runtime: &'static str,
    pub(super) memory_mib: u32,
    pub(super) code: PathBuf,
    /// How many random values each answer has.
    pub(super) random_values: usize,
    event: fn(u32) -> Value,
    check: fn(u32, &Value) -> Result<(), String>,
}

impl Function {
    /// The event of call `n`; no two are equal.
    pub(super) fn event(&self, n: u32) -> Value {
        (self.event)(n)
    }

    /// Whether `result` is the answer to call `n`; if not, what is wrong.
    pub(super) fn check(&self, n: u32, result: &Value) -> Result<(), String> {
        (self.check)(n, result).map_err(|reason| format!("call {n}: {reason}"))
    }
}

/// Linear algebra with numpy.
pub(super) fn python(code: &Path) -> Function {
    Function {
        name: "demo-python-numpy",
        runtime: "python3.11",
        memory_mib: 512,
        code: code.to_owned(),
        random_values: 4,
        event: algebra_event,
        check: check_algebra,
    }
}

/// Hashes, JSON and sums in Node.
pub(super) fn node(code: &Path) -> Function {
    Function {
        name: "demo-node-crypto",
        runtime: "node20",
        memory_mib: 512,
        code: code.to_owned(),
        random_values: 3,
        event: orders_event,
        check: check_orders,
    }
}

/// Small numbers that depend on nothing but the seed: a linear congruential generator with Knuth's
/// constants (MMIX), of which the upper bits are used.
struct Numbers(u64);

impl Numbers {
    fn below(&mut self, limit: u32) -> u32 {
        self.0 =
            self.0.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        let upper = (self.0 >> 33) as u32;
        upper % limit
    }

    fn signed(&mut self, magnitude: i32) -> i32 {
        self.below(2 * magnitude.unsigned_abs() + 1).cast_signed() - magnitude
    }
}

/// Rows of the matrix.
const ROWS: usize = 24;
/// Floating-point error that a well-conditioned system of this size may show, with a wide margin.
const TOLERANCE: f64 = 1e-9;

/// A symmetric matrix of integers whose diagonal dominates, and a solution in integers.
fn system(n: u32) -> (Vec<Vec<i32>>, Vec<i32>) {
    let mut numbers = Numbers(n.into());
    let mut matrix = vec![vec![0; ROWS]; ROWS];
    for (row, column) in (0..ROWS).flat_map(|row| (0..=row).map(move |column| (row, column))) {
        // On the diagonal over the sum of the other 23 elements of the row, each at most 9.
        let element = if row == column { 250 + numbers.signed(20) } else { numbers.signed(9) };
        matrix[row][column] = element;
        matrix[column][row] = element;
    }
    let solution = (0..ROWS).map(|_| numbers.signed(1000)).collect();
    (matrix, solution)
}

fn algebra_event(n: u32) -> Value {
    let (matrix, solution) = system(n);
    let product = |row: &Vec<i32>| row.iter().zip(&solution).map(|(a, x)| a * x).sum::<i32>();
    let right: Vec<_> = matrix.iter().map(product).collect();
    json!({ "n": n, "matrix": matrix, "right": right })
}

/// The solution is known beforehand. The eigenvalues are not, but their sum is the trace and the sum
/// of their squares that of all elements.
fn check_algebra(n: u32, result: &Value) -> Result<(), String> {
    let (matrix, solution) = system(n);
    let solved = floats(&result["solution"])?;
    let close = |a: f64, b: f64| (a - b).abs() <= TOLERANCE * a.abs().max(1.0);
    if solved.len() != ROWS || !solution.iter().zip(&solved).all(|(x, y)| close((*x).into(), *y)) {
        return Err("the solution is wrong".to_owned());
    }
    let eigenvalues = floats(&result["eigenvalues"])?;
    let trace: i32 = (0..ROWS).map(|row| matrix[row][row]).sum();
    let squares: i32 = matrix.iter().flatten().map(|element| element * element).sum();
    let right = eigenvalues.len() == ROWS
        && eigenvalues.is_sorted()
        && close(trace.into(), eigenvalues.iter().sum())
        && close(squares.into(), eigenvalues.iter().map(|value| value * value).sum());
    if right { Ok(()) } else { Err("the eigenvalues are wrong".to_owned()) }
}

fn floats(value: &Value) -> Result<Vec<f64>, String> {
    let numbers = value.as_array().map(|array| array.iter().map(Value::as_f64).collect());
    numbers.flatten().ok_or_else(|| "the result has no list of numbers".to_owned())
}

const ITEMS: [&str; 6] = ["floe", "growler", "iceberg", "lead", "névé", "serac"];
const ORDERS: usize = 200;
const ROUNDS: u32 = 500;

/// An order: item, quantity, cents a piece.
fn orders(n: u32) -> Vec<(&'static str, u32, u32)> {
    let mut numbers = Numbers(u64::from(n) << 32);
    let mut order = || {
        let item = ITEMS[numbers.below(6) as usize];
        (item, 1 + numbers.below(50), 1 + numbers.below(100_000))
    };
    (0..ORDERS).map(|_| order()).collect()
}

fn salt(n: u32) -> String {
    format!("salt {n}")
}

fn orders_event(n: u32) -> Value {
    let order =
        |(item, quantity, cents)| json!({ "item": item, "quantity": quantity, "cents": cents });
    let orders: Vec<_> = orders(n).into_iter().map(order).collect();
    json!({ "n": n, "orders": orders, "salt": salt(n), "rounds": ROUNDS })
}

fn check_orders(n: u32, result: &Value) -> Result<(), String> {
    let mut totals = BTreeMap::<&str, u64>::new();
    for (item, quantity, cents) in orders(n) {
        *totals.entry(item).or_default() += u64::from(quantity) * u64::from(cents);
    }
    if result["totals"] != json!(totals) {
        return Err("the totals are wrong".to_owned());
    }
    let sealed = serde_json::to_string(&totals).map_err(|error| error.to_string())? + &salt(n);
    let mut seal = Sha256::digest(sealed);
    for _ in 0..ROUNDS {
        seal = Sha256::digest(seal);
    }
    let hex: String = seal.iter().map(|byte| format!("{byte:02x}")).collect();
    if result["seal"] == hex { Ok(()) } else { Err("the seal is wrong".to_owned()) }
}

#[cfg(test)]
mod tests;
