//! Joining, counting and renaming of expressions.

use std::sync::Arc;

use crate::{
    ir::{Expr, Field, Predicate, Test, Written},
    sigma::condition::Condition,
};

/// Every part; a single one stays itself.
pub(crate) fn all(mut parts: Vec<Expr>) -> Expr {
    match (parts.len(), parts.pop()) {
        (1, Some(only)) => only,
        (_, last) => {
            parts.extend(last);
            Expr::All(parts)
        }
    }
}

/// One part at least; a single one stays itself.
pub(crate) fn any(mut parts: Vec<Expr>) -> Expr {
    match (parts.len(), parts.pop()) {
        (1, Some(only)) => only,
        (_, last) => {
            parts.extend(last);
            Expr::Any(parts)
        }
    }
}

/// Tests in an expression.
pub(crate) fn tests(expr: &Expr) -> usize {
    match expr {
        Expr::Test(_) | Expr::Const(_) => 1,
        Expr::All(parts) | Expr::Any(parts) => parts.iter().map(tests).sum::<usize>() + 1,
        Expr::Not(part) => tests(part),
        Expr::Written(written) => tests(&written.expr),
    }
}

/// Tests of a condition over selections of those sizes.
pub(crate) fn size(condition: &Condition, sizes: &[usize]) -> usize {
    match condition {
        Condition::One(place) => sizes.get(*place).copied().unwrap_or(0),
        Condition::All(parts) | Condition::Any(parts) => parts
            .iter()
            .fold(0, |sum: usize, part| sum.saturating_add(size(part, sizes))),
        Condition::Not(part) => size(part, sizes),
    }
}

/// The condition with the expressions of its selections.
pub(crate) fn join(condition: &Condition, selections: &[Expr]) -> Expr {
    let parts = |parts: &[Condition]| -> Vec<Expr> {
        parts.iter().map(|part| join(part, selections)).collect()
    };
    match condition {
        Condition::One(place) => selections
            .get(*place)
            .cloned()
            .unwrap_or(Expr::Const(false)),
        Condition::All(conditions) => all(parts(conditions)),
        Condition::Any(conditions) => any(parts(conditions)),
        Condition::Not(part) => Expr::Not(Box::new(join(part, selections))),
    }
}

/// The expression with other names of fields.
pub(crate) fn renamed(expr: &Expr, name: &mut dyn FnMut(&str) -> Arc<str>) -> Expr {
    match expr {
        Expr::Test(predicate) => {
            let mut field = |field: &Field| Field {
                name: name(&field.name),
                view: field.view,
            };
            let test = match &predicate.test {
                Test::Other {
                    field: other,
                    how,
                    cased,
                } => Test::Other {
                    field: field(other),
                    how: *how,
                    cased: *cased,
                },
                test => test.clone(),
            };
            Expr::Test(Predicate {
                field: predicate.field.as_ref().map(field),
                test,
            })
        }
        Expr::All(parts) => Expr::All(parts.iter().map(|part| renamed(part, name)).collect()),
        Expr::Any(parts) => Expr::Any(parts.iter().map(|part| renamed(part, name)).collect()),
        Expr::Not(part) => Expr::Not(Box::new(renamed(part, name))),
        Expr::Const(value) => Expr::Const(*value),
        Expr::Written(written) => Expr::Written(Box::new(Written {
            field: written.field.clone(),
            condition: written.condition.clone(),
            shows: name(&written.shows).to_string(),
            expr: renamed(&written.expr, name),
        })),
    }
}
