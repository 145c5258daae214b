// Of this module only the resource definitions are used, so nothing that it requires is named here.
module mail-failover/e2e/tools/prometheus-operator

go 1.26.0

require github.com/prometheus-operator/prometheus-operator v0.85.0
