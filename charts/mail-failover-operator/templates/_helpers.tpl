{{- define "mail-failover-operator.name" -}}
{{- default .Chart.Name .Values.nameOverride | trunc 50 | trimSuffix "-" -}}
{{- end -}}

{{/* At most 50 characters, so that names with a suffix ("-metrics", and those of pods) are not too long. */}}
{{- define "mail-failover-operator.fullname" -}}
{{- if .Values.fullnameOverride -}}
{{- .Values.fullnameOverride | trunc 50 | trimSuffix "-" -}}
{{- else -}}
{{- $name := include "mail-failover-operator.name" . -}}
{{- if contains $name .Release.Name -}}
{{- .Release.Name | trunc 50 | trimSuffix "-" -}}
{{- else -}}
{{- printf "%s-%s" .Release.Name $name | trunc 50 | trimSuffix "-" -}}
{{- end -}}
{{- end -}}
{{- end -}}

{{/* Objects without a namespace bear that of the release in their names: two releases of one name may be in two namespaces. */}}
{{- define "mail-failover-operator.clusterName" -}}
{{- $fullname := include "mail-failover-operator.fullname" . -}}
{{- if eq $fullname .Release.Namespace -}}
{{- $fullname -}}
{{- else -}}
{{- printf "%s:%s" .Release.Namespace $fullname -}}
{{- end -}}
{{- end -}}

{{- define "mail-failover-operator.selectorLabels" -}}
app.kubernetes.io/name: {{ include "mail-failover-operator.name" . }}
app.kubernetes.io/instance: {{ .Release.Name }}
{{- end -}}

{{- define "mail-failover-operator.labels" -}}
{{ include "mail-failover-operator.selectorLabels" . }}
app.kubernetes.io/version: {{ .Chart.AppVersion | quote }}
app.kubernetes.io/component: operator
app.kubernetes.io/part-of: mail-failover-operator
{{- /* Not our own name: what is labelled so is taken for an output of a route. */}}
app.kubernetes.io/managed-by: {{ .Release.Service }}
helm.sh/chart: {{ printf "%s-%s" .Chart.Name .Chart.Version | replace "+" "_" }}
{{- with .Values.commonLabels }}
{{ toYaml . }}
{{- end }}
{{- end -}}

{{- define "mail-failover-operator.serviceAccountName" -}}
{{- if .Values.serviceAccount.create -}}
{{- default (include "mail-failover-operator.fullname" .) .Values.serviceAccount.name -}}
{{- else -}}
{{- default "default" .Values.serviceAccount.name -}}
{{- end -}}
{{- end -}}

{{- define "mail-failover-operator.subjects" -}}
- kind: ServiceAccount
  name: {{ include "mail-failover-operator.serviceAccountName" . }}
  namespace: {{ .Release.Namespace }}
{{- end -}}

{{- define "mail-failover-operator.image" -}}
{{- if .Values.image.digest -}}
{{- printf "%s@%s" .Values.image.repository .Values.image.digest -}}
{{- else -}}
{{- printf "%s:%s" .Values.image.repository (default .Chart.AppVersion .Values.image.tag) -}}
{{- end -}}
{{- end -}}

{{/* What is needed in every namespace that is watched. */}}
{{- define "mail-failover-operator.watchedRules" -}}
{{ .Files.Get "files/rbac/watched.yaml" | trim }}
{{- if .Values.probeJobs.enabled }}
{{ .Files.Get "files/rbac/probe-jobs.yaml" | trim }}
{{- end }}
{{- if .Values.dns.endpoints }}
{{ .Files.Get "files/rbac/dns-endpoints.yaml" | trim }}
{{- end }}
{{- with .Values.rbac.secretNames }}
{{ $.Files.Get "files/rbac/secrets-by-name.yaml" | trim }}
  resourceNames: {{ toJson . }}
{{- end }}
{{- end -}}

{{/* Of the operator's pods, for monitors and alerts. */}}
{{- define "mail-failover-operator.series" -}}
namespace={{ .Release.Namespace | quote }},pod=~{{ printf "%s-[a-z0-9]+-[a-z0-9]+" (include "mail-failover-operator.fullname" .) | quote }}
{{- end -}}

{{/* A duration such as 1m30s in milliseconds. */}}
{{- define "mail-failover-operator.milliseconds" -}}
{{- $sum := 0.0 -}}
{{- range regexFindAll "[0-9]+(\\.[0-9]+)?(ms|s|m|h)" . -1 -}}
{{- $factor := get (dict "ms" 1.0 "s" 1000.0 "m" 60000.0 "h" 3600000.0) (regexFind "[a-z]+$" .) -}}
{{- $sum = addf $sum (mulf (regexFind "^[0-9.]+" . | float64) $factor) -}}
{{- end -}}
{{- $sum -}}
{{- end -}}

{{/* "true" if the text is an IP address as the program reads it. */}}
{{- define "mail-failover-operator.isAddress" -}}
{{- $octet := "(25[0-5]|2[0-4][0-9]|1[0-9][0-9]|[1-9]?[0-9])" -}}
{{- $v4 := printf "(%s[.]){3}%s" $octet $octet -}}
{{- if contains ":" . -}}
{{- $plain := regexReplaceAll (printf ":%s$" $v4) . ":0:0" -}}
{{- $groups := splitList ":" $plain -}}
{{- $are16bits := true -}}
{{- range without $groups "" -}}{{- if not (regexMatch "^[0-9a-fA-F]{1,4}$" .) -}}{{- $are16bits = false -}}{{- end -}}{{- end -}}
{{- $count := without $groups "" | len -}}
{{- $isWhole := and (eq $count 8) (eq (len $groups) 8) -}}
{{- $isShort := and (regexMatch "^[^:]*(:[^:]+)*::([^:]+:)*[^:]*$" $plain) (not (regexMatch "(^:[^:]|[^:]:$)" $plain)) (lt $count 8) -}}
{{- if and $are16bits (or $isWhole $isShort) -}}true{{- end -}}
{{- else if regexMatch (printf "^%s$" $v4) . -}}true
{{- end -}}
{{- end -}}

{{/* "true" if the text is a network: an address with the length of its prefix. */}}
{{- define "mail-failover-operator.isNetwork" -}}
{{- $parts := splitList "/" . -}}
{{- if eq (len $parts) 2 -}}
{{- $longest := ternary 128 32 (contains ":" .) -}}
{{- $length := last $parts -}}
{{- if and (regexMatch "^[0-9]{1,3}$" $length) (le (atoi $length) $longest) (eq (include "mail-failover-operator.isAddress" (first $parts)) "true") -}}true{{- end -}}
{{- end -}}
{{- end -}}

{{/* Values that fit their schema and that the program would refuse at its start: its pods would end at once, again and again. */}}
{{- define "mail-failover-operator.validate" -}}
{{- $lease := include "mail-failover-operator.milliseconds" .Values.leaderElection.leaseDuration | float64 -}}
{{- $renew := include "mail-failover-operator.milliseconds" .Values.leaderElection.renewDeadline | float64 -}}
{{- $retry := include "mail-failover-operator.milliseconds" .Values.leaderElection.retryPeriod | float64 -}}
{{- if or (lt $lease 1000.0) (gt $lease 300000.0) (ne (mulf (floor (divf $lease 1000.0)) 1000.0) $lease) -}}
{{- fail (printf "leaderElection.leaseDuration is %s: it must be between 1s and 5m, in whole seconds" .Values.leaderElection.leaseDuration) -}}
{{- end -}}
{{- if gt (mulf $renew 1.25) $lease -}}
{{- fail (printf "leaderElection.renewDeadline is %s: with a quarter added it must not exceed leaderElection.leaseDuration, %s" .Values.leaderElection.renewDeadline .Values.leaderElection.leaseDuration) -}}
{{- end -}}
{{- if or (lt $retry 100.0) (gt (mulf $retry 2.0) $renew) -}}
{{- fail (printf "leaderElection.retryPeriod is %s: it must be at least 100ms and at most half of leaderElection.renewDeadline, %s" .Values.leaderElection.retryPeriod .Values.leaderElection.renewDeadline) -}}
{{- end -}}
{{- range concat .Values.smtpDestinations.deny .Values.smtpDestinations.allow -}}
{{- if not (or (include "mail-failover-operator.isAddress" .) (include "mail-failover-operator.isNetwork" .)) -}}
{{- fail (printf "smtpDestinations: %s is no network and no address: use one such as 10.0.0.0/8 or fd00::/8; the prefix has at most 32 or 128 bits" .) -}}
{{- end -}}
{{- end -}}
{{- range .Values.smtpProbes.dnsServers -}}
{{- $address := regexReplaceAll ":[0-9]+$" . "" | trimPrefix "[" | trimSuffix "]" -}}
{{- $port := regexFind "[0-9]+$" . -}}
{{- if or (not (include "mail-failover-operator.isAddress" $address)) (gt (len $port) 5) (lt (atoi $port) 1) (gt (atoi $port) 65535) -}}
{{- fail (printf "smtpProbes.dnsServers: %s is no address with a port: use one such as 10.0.0.1:53 or [fd00::1]:53" .) -}}
{{- end -}}
{{- end -}}
{{- range concat .Values.smtpDestinations.ports .Values.webhooks.ports .Values.dns.ports -}}
{{- $ends := splitList "-" (toString .) -}}
{{- if or (lt (first $ends | atoi) 1) (gt (last $ends | atoi) 65535) (gt (first $ends | atoi) (last $ends | atoi)) -}}
{{- fail (printf "ports: %v is no port and no range of ports from 1 to 65535, the lower one first" .) -}}
{{- end -}}
{{- end -}}
{{- end -}}
