//! Bugs for the simulator, as the engine has them; nothing of it is in a build without the feature `zoo`.

/// Whether this bug is on. It stands where a realistic mistake is one condition away.
macro_rules! bug {
    ($name:literal) => {{
        #[cfg(feature = "zoo")]
        {
            engine::zoo::is_on(const { engine::zoo::number($name) })
        }
        #[cfg(not(feature = "zoo"))]
        {
            false
        }
    }};
}
