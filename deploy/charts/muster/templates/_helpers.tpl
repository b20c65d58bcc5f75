{{/* The name of the objects. */}}
{{- define "muster.fullname" -}}
{{- if .Values.fullnameOverride -}}
{{- .Values.fullnameOverride -}}
{{- else if contains (include "muster.name" .) .Release.Name -}}
{{- .Release.Name | trunc 40 | trimSuffix "-" -}}
{{- else -}}
{{- printf "%s-%s" .Release.Name (include "muster.name" .) | trunc 40 | trimSuffix "-" -}}
{{- end -}}
{{- end -}}

{{- define "muster.name" -}}
{{- default .Chart.Name .Values.nameOverride -}}
{{- end -}}

{{/* The labels by which Services and policies find the pods. A Deployment cannot change them. */}}
{{- define "muster.selectorLabels" -}}
app.kubernetes.io/name: {{ include "muster.name" . }}
app.kubernetes.io/instance: {{ .Release.Name }}
{{- end -}}

{{/* The recommended labels. */}}
{{- define "muster.recommendedLabels" -}}
{{ include "muster.selectorLabels" . }}
app.kubernetes.io/version: {{ .Chart.AppVersion | quote }}
app.kubernetes.io/component: operator
app.kubernetes.io/part-of: muster
app.kubernetes.io/managed-by: {{ .Release.Service }}
helm.sh/chart: {{ printf "%s-%s" .Chart.Name .Chart.Version | replace "+" "_" }}
{{- end -}}

{{/* All labels of an object. Labels of the values never replace a recommended one. */}}
{{- define "muster.labels" -}}
{{- mergeOverwrite (deepCopy .Values.commonLabels) (include "muster.recommendedLabels" . | fromYaml) | toYaml -}}
{{- end -}}

{{- define "muster.podLabels" -}}
{{- mergeOverwrite (deepCopy .Values.podLabels) (include "muster.labels" . | fromYaml) | toYaml -}}
{{- end -}}

{{- define "muster.serviceAccountName" -}}
{{- if .Values.serviceAccount.create -}}
{{- default (include "muster.fullname" .) .Values.serviceAccount.name -}}
{{- else -}}
{{- default "default" .Values.serviceAccount.name -}}
{{- end -}}
{{- end -}}

{{- define "muster.image" -}}
{{- with .Values.image -}}
{{- if .digest -}}
{{- printf "%s@%s" .repository .digest -}}
{{- else -}}
{{- printf "%s:%s" .repository (default $.Chart.AppVersion .tag) -}}
{{- end -}}
{{- end -}}
{{- end -}}

{{- define "muster.apiUrl" -}}
{{- $scheme := ternary "https" "http" (ne .Values.tls.secretName "") -}}
{{- default (printf "%s://%s.%s.svc:8080" $scheme (include "muster.fullname" .) .Release.Namespace) .Values.apiUrl -}}
{{- end -}}

{{/* The spread, each constraint with a selector. */}}
{{- define "muster.topologySpreadConstraints" -}}
{{- range .Values.topologySpreadConstraints }}
{{- $own := dict -}}
{{- if not .labelSelector -}}
{{- $own = dict "labelSelector" (dict "matchLabels" (include "muster.selectorLabels" $ | fromYaml)) "matchLabelKeys" (list "pod-template-hash") -}}
{{- end }}
- {{ toYaml (merge $own .) | nindent 2 | trim }}
{{- end -}}
{{- end -}}

{{/* The subject of the operator's bindings. */}}
{{- define "muster.subjects" -}}
- kind: ServiceAccount
  name: {{ include "muster.serviceAccountName" . }}
  namespace: {{ .Release.Namespace }}
{{- end -}}
