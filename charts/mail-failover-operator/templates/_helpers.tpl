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
{{- with .Values.rbac.secretNames }}
{{ $.Files.Get "files/rbac/secrets-by-name.yaml" | trim }}
  resourceNames: {{ toJson . }}
{{- end }}
{{- end -}}

{{/* Of the operator's pods, for monitors and alerts. */}}
{{- define "mail-failover-operator.series" -}}
namespace={{ .Release.Namespace | quote }},pod=~{{ printf "%s-[a-z0-9]+-[a-z0-9]+" (include "mail-failover-operator.fullname" .) | quote }}
{{- end -}}
