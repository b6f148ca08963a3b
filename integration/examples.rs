//! Every configuration in `conf/` serves; what the documentation says of configurations, commands and metrics is true.

mod documents;
mod example;
mod served;
