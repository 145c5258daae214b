use mail_failover_e2e::suite::Trial;

pub fn trials() -> Vec<Trial> {
    vec![]
}
