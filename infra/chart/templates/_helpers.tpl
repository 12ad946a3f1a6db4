{{/* The rows of the topology table, with the values' changes. */}}
{{- define "ssa.functions" -}}
{{- $rows := .Files.Get "files/functions.yaml" | fromYaml -}}
{{- range $name, $_ := .Values.functions -}}
{{- if not (hasKey $rows $name) -}}{{- fail (printf "functions.%s is not in infra/topology.yaml" $name) -}}{{- end -}}
{{- end -}}
{{- mergeOverwrite $rows (deepCopy .Values.functions) | toYaml -}}
{{- end -}}

{{- define "ssa.labels" -}}
app.kubernetes.io/part-of: self-service-agent
app.kubernetes.io/managed-by: {{ .Release.Service }}
app.kubernetes.io/version: {{ .Chart.AppVersion | quote }}
helm.sh/chart: {{ printf "%s-%s" .Chart.Name .Chart.Version }}
{{- end -}}

{{/* An image: (list root name) */}}
{{- define "ssa.image" -}}
{{- $root := index . 0 -}}
{{- $registry := required "image.registry must be set" $root.Values.image.registry -}}
{{- printf "%s/%s:%s" $registry (index . 1) (default $root.Chart.AppVersion $root.Values.image.tag) -}}
{{- end -}}

{{- define "ssa.brokerUrl" -}}
{{- $host := ternary "kafka-broker-ingress" "broker-ingress" (eq .Values.broker.class "Kafka") -}}
{{- default (printf "http://%s.knative-eventing.svc.cluster.local/%s/%s" $host .Release.Namespace .Values.broker.name) .Values.broker.ingressUrl -}}
{{- end -}}

{{/* Non-root, read-only, nothing more than it needs. */}}
{{- define "ssa.containerSecurity" -}}
allowPrivilegeEscalation: false
readOnlyRootFilesystem: true
runAsNonRoot: true
capabilities: {drop: [ALL]}
seccompProfile: {type: RuntimeDefault}
{{- end -}}

{{- define "ssa.deadLetterSink" -}}
ref: {apiVersion: serving.knative.dev/v1, kind: Service, name: {{ . }}}
{{- end -}}

{{/* The function that is the dead-letter sink. */}}
{{- define "ssa.deadLetter" -}}
{{- range $name, $row := include "ssa.functions" . | fromYaml -}}
{{- if $row.deadLetter }}{{ $name }}{{ end -}}
{{- end -}}
{{- end -}}

{{- define "ssa.secretNames" -}}
{{- $holders := dict -}}
{{- range $_, $row := include "ssa.functions" . | fromYaml -}}
{{- range $holder, $variables := $row.secrets -}}
{{- $_ := set $holders $holder (concat (get $holders $holder | default list) $variables | uniq | sortAlpha) -}}
{{- end -}}
{{- end -}}
{{- toYaml $holders -}}
{{- end -}}
