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

{{/* An event function as a Destination: (list root name). A Knative Service has no audience of its own, and without one Knative
     sends no token. */}}
{{- define "ssa.eventFunction" -}}
{{- $root := index . 0 -}}
ref: {apiVersion: serving.knative.dev/v1, kind: Service, name: {{ index . 1 }}}
{{- if $root.Values.eventAuth.oidc.enabled }}
audience: {{ include "ssa.eventAudience" $root }}
{{- end }}
{{- end -}}

{{/* What the event functions are called in tokens. One name for all of them: each does what the one before it says anyway. */}}
{{- define "ssa.eventAudience" -}}
{{- default (printf "self-service-agent/%s" .Release.Namespace) .Values.eventAuth.oidc.audience -}}
{{- end -}}

{{/* Who delivers: the Triggers' service accounts. Knative names them <Trigger>-oidc-…, or, as that gets too long, by the first 31
     characters and a hash (kmeta.ChildName). */}}
{{- define "ssa.eventSubjects" -}}
{{- $subjects := list -}}
{{- range $_, $row := include "ssa.functions" . | fromYaml -}}
{{- range $row.triggers -}}
{{- $subjects = append $subjects (printf "system:serviceaccount:%s:%s*" $.Release.Namespace (trunc 31 .name)) -}}
{{- end -}}
{{- end -}}
{{- concat $subjects .Values.eventAuth.oidc.subjects | join "," -}}
{{- end -}}

{{/* Whether the event functions ask the API server for the keys of its tokens, as themselves. */}}
{{- define "ssa.asksApiServer" -}}
{{- if and .Values.eventAuth.oidc.enabled (not .Values.eventAuth.oidc.jwksUrl) -}}true{{- end -}}
{{- end -}}

{{- define "ssa.agents" -}}
{{- if .Values.agents -}}
{{- toYaml .Values.agents -}}
{{- else -}}
{{- (.Files.Glob "files/agents/*.yaml").AsConfig -}}
{{- end -}}
{{- end -}}

{{/* The ConfigMap's keys: settings, and what other values say. */}}
{{- define "ssa.settings" -}}
{{- range $name := list "EVENTS_TOKEN" "EVENTS_OIDC_AUDIENCE" "EVENTS_OIDC_ISSUER" "EVENTS_OIDC_SUBJECTS" "EVENTS_OIDC_JWKS_URL" -}}
{{- if hasKey $.Values.settings $name -}}{{- fail (printf "settings.%s: set eventAuth instead" $name) -}}{{- end -}}
{{- end -}}
{{- $made := dict "BROKER_URL" (include "ssa.brokerUrl" .) -}}
{{- with .Values.eventAuth.oidc -}}
{{- if .enabled -}}
{{- $_ := set $made "EVENTS_OIDC_AUDIENCE" (include "ssa.eventAudience" $) -}}
{{- $_ := set $made "EVENTS_OIDC_ISSUER" (required "eventAuth.oidc.issuer must be set: kubectl get --raw /.well-known/openid-configuration says it" .issuer) -}}
{{- $_ := set $made "EVENTS_OIDC_SUBJECTS" (include "ssa.eventSubjects" $) -}}
{{- if .jwksUrl -}}{{- $_ := set $made "EVENTS_OIDC_JWKS_URL" .jwksUrl -}}{{- end -}}
{{- end -}}
{{- end -}}
{{- with .Values.tracing.endpoint -}}
{{- $_ := set $made "OTEL_EXPORTER_OTLP_ENDPOINT" . -}}
{{- $_ := set $made "OTEL_TRACES_SAMPLER" "parentbased_traceidratio" -}}
{{- $_ := set $made "OTEL_TRACES_SAMPLER_ARG" $.Values.tracing.ratio -}}
{{- end -}}
{{- range $name, $value := merge (deepCopy .Values.settings) $made }}
{{ $name }}: {{ $value | toString | quote }}
{{- end -}}
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
{{- if .Values.eventAuth.token -}}
{{- $_ := set $holders "events" (list "EVENTS_TOKEN") -}}
{{- end -}}
{{- toYaml $holders -}}
{{- end -}}
