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
{{- if not (or .Values.service.smtpPort .Values.service.submissionPort (and .Values.service.smtpsPort .Values.tls.secretName)) -}}
{{- fail "the Service would have no port: set one of service.smtpPort, service.submissionPort and, with tls.secretName, service.smtpsPort" -}}
{{- end -}}
{{- if and .Values.service.externalTrafficPolicy (eq .Values.service.type "ClusterIP") -}}
{{- fail "service.externalTrafficPolicy is for service.type LoadBalancer and NodePort" -}}
{{- end -}}
{{- end -}}
