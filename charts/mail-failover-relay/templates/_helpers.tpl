{{- define "mail-failover-relay.name" -}}
{{- default .Chart.Name .Values.nameOverride | trunc 50 | trimSuffix "-" -}}
{{- end -}}

{{/* At most 50 characters, so that names with a suffix ("-metrics", and those of pods) are not too long. */}}
{{- define "mail-failover-relay.fullname" -}}
{{- if .Values.fullnameOverride -}}
{{- .Values.fullnameOverride | trunc 50 | trimSuffix "-" -}}
{{- else -}}
{{- $name := include "mail-failover-relay.name" . -}}
{{- if contains $name .Release.Name -}}
{{- .Release.Name | trunc 50 | trimSuffix "-" -}}
{{- else -}}
{{- printf "%s-%s" .Release.Name $name | trunc 50 | trimSuffix "-" -}}
{{- end -}}
{{- end -}}
{{- end -}}

{{- define "mail-failover-relay.selectorLabels" -}}
app.kubernetes.io/name: {{ include "mail-failover-relay.name" . }}
app.kubernetes.io/instance: {{ .Release.Name }}
{{- end -}}

{{- define "mail-failover-relay.labels" -}}
{{ include "mail-failover-relay.selectorLabels" . }}
app.kubernetes.io/version: {{ .Chart.AppVersion | quote }}
app.kubernetes.io/component: relay
app.kubernetes.io/part-of: mail-failover-operator
app.kubernetes.io/managed-by: {{ .Release.Service }}
helm.sh/chart: {{ printf "%s-%s" .Chart.Name .Chart.Version | replace "+" "_" }}
{{- with .Values.commonLabels }}
{{ toYaml . }}
{{- end }}
{{- end -}}

{{- define "mail-failover-relay.serviceAccountName" -}}
{{- if .Values.serviceAccount.create -}}
{{- default (include "mail-failover-relay.fullname" .) .Values.serviceAccount.name -}}
{{- else -}}
{{- default "default" .Values.serviceAccount.name -}}
{{- end -}}
{{- end -}}

{{- define "mail-failover-relay.image" -}}
{{- if .Values.image.digest -}}
{{- printf "%s@%s" .Values.image.repository .Values.image.digest -}}
{{- else -}}
{{- printf "%s:%s" .Values.image.repository (default .Chart.AppVersion .Values.image.tag) -}}
{{- end -}}
{{- end -}}

{{- define "mail-failover-relay.hostname" -}}
{{- default (printf "%s.%s.svc.%s" (include "mail-failover-relay.fullname" .) .Release.Namespace .Values.clusterDomain) .Values.hostname -}}
{{- end -}}

{{/* A duration such as 1m30s in milliseconds. */}}
{{- define "mail-failover-relay.milliseconds" -}}
{{- $sum := 0.0 -}}
{{- range regexFindAll "[0-9]+(\\.[0-9]+)?(ms|s|m|h)" . -1 -}}
{{- $factor := get (dict "ms" 1.0 "s" 1000.0 "m" 60000.0 "h" 3600000.0) (regexFind "[a-z]+$" .) -}}
{{- $sum = addf $sum (mulf (regexFind "^[0-9.]+" . | float64) $factor) -}}
{{- end -}}
{{- $sum -}}
{{- end -}}

{{/* "true" if the text is an IP address as the program reads it. */}}
{{- define "mail-failover-relay.isAddress" -}}
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
{{- define "mail-failover-relay.isNetwork" -}}
{{- $parts := splitList "/" . -}}
{{- if eq (len $parts) 2 -}}
{{- $longest := ternary 128 32 (contains ":" .) -}}
{{- $length := last $parts -}}
{{- if and (regexMatch "^[0-9]{1,3}$" $length) (le (atoi $length) $longest) (eq (include "mail-failover-relay.isAddress" (first $parts)) "true") -}}true{{- end -}}
{{- end -}}
{{- end -}}

{{/* What no relay can work with. */}}
{{- define "mail-failover-relay.check" -}}
{{- if not .Values.configMap -}}
{{- fail "configMap is needed: the ConfigMap that the operator writes for the route, outputs[].agent.configMap of the MailRoute" -}}
{{- end -}}
{{- if not (or .Values.clients.networks .Values.clients.usersSecret) -}}
{{- fail "nobody could send: set clients.networks (networks of clients that need no login) or clients.usersSecret (users that log in)" -}}
{{- end -}}
{{- if and .Values.clients.usersSecret (not .Values.tls.secretName) -}}
{{- fail "clients.usersSecret needs tls.secretName: passwords travel inside TLS only" -}}
{{- end -}}
{{- if and .Values.tls.required (not .Values.tls.secretName) -}}
{{- fail "tls.required needs tls.secretName" -}}
{{- end -}}
{{- range concat .Values.clients.networks .Values.clients.proxies -}}
{{- if not (include "mail-failover-relay.isNetwork" .) -}}
{{- fail (printf "clients: %s is no network: use one such as 10.0.0.0/8 or fd00::/8; the prefix has at most 32 or 128 bits" .) -}}
{{- end -}}
{{- end -}}
{{- $steps := join " " .Values.extraArgs -}}
{{- if not (or (contains "--stage-timeout" $steps) (contains "--answer-timeout" $steps)) -}}
{{- if lt (include "mail-failover-relay.milliseconds" .Values.transactionTimeout | float64) 15000.0 -}}
{{- fail (printf "transactionTimeout is %s: it must be 15s at least, for a step of 5s and the final answer of 10s" .Values.transactionTimeout) -}}
{{- end -}}
{{- end -}}
{{- $delay := include "mail-failover-relay.milliseconds" .Values.drain.delay | float64 -}}
{{- $drain := addf $delay (include "mail-failover-relay.milliseconds" .Values.drain.timeout | float64) -}}
{{- if le (mulf .Values.terminationGracePeriodSeconds 1000.0) $drain -}}
{{- fail (printf "terminationGracePeriodSeconds is %v: it must be longer than drain.delay (%s) and drain.timeout (%s) together, or a pod is killed amid its transactions" .Values.terminationGracePeriodSeconds .Values.drain.delay .Values.drain.timeout) -}}
{{- end -}}
{{- if not (regexMatch "^[A-Za-z0-9._-]{1,253}$" (include "mail-failover-relay.hostname" .)) -}}
{{- fail (printf "hostname: %s is no host name; set one, or mend clusterDomain" (include "mail-failover-relay.hostname" .)) -}}
{{- end -}}
{{- if not (or .Values.service.smtpPort .Values.service.submissionPort (and .Values.service.smtpsPort .Values.tls.secretName)) -}}
{{- fail "the Service would have no port: set one of service.smtpPort, service.submissionPort and, with tls.secretName, service.smtpsPort" -}}
{{- end -}}
{{- if and .Values.service.externalTrafficPolicy (eq .Values.service.type "ClusterIP") -}}
{{- fail "service.externalTrafficPolicy is for service.type LoadBalancer and NodePort" -}}
{{- end -}}
{{- end -}}
