//! The IBM platform and License Service, emulated for the demo and the tests.
