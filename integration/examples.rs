//! Every configuration in `conf/` serves.

mod served;
