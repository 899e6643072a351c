//! The field model in Kong's vocabulary: validation, defaults, form coercion and schema output
