//! An authenticating reverse proxy for IBM watsonx, IBM Software Hub and IBM License Service.

pub mod config;
