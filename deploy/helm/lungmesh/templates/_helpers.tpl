{{- define "lungmesh.fullname" -}}
{{- if contains "lungmesh" .Release.Name }}{{ .Release.Name | trunc 40 | trimSuffix "-" }}{{ else }}{{ printf "%s-lungmesh" .Release.Name | trunc 40 | trimSuffix "-" }}{{ end -}}
{{- end -}}

{{- /* What selects pods; it never changes between versions. (root, component) */ -}}
{{- define "lungmesh.selector" -}}
app.kubernetes.io/name: lungmesh
app.kubernetes.io/instance: {{ .root.Release.Name }}
app.kubernetes.io/component: {{ .component }}
{{- end -}}

{{- define "lungmesh.labels" -}}
{{ include "lungmesh.selector" . }}
app.kubernetes.io/version: {{ .root.Chart.AppVersion | quote }}
app.kubernetes.io/managed-by: {{ .root.Release.Service }}
app.kubernetes.io/part-of: lungmesh
helm.sh/chart: {{ .root.Chart.Name }}-{{ .root.Chart.Version }}
{{- end -}}

{{- /* (root, image) */ -}}
{{- define "lungmesh.image" -}}
{{- if .image.digest }}{{ .image.repository }}@{{ .image.digest }}{{ else }}{{ .image.repository }}:{{ .image.tag | default .root.Chart.AppVersion }}{{ end -}}
{{- end -}}

{{- define "lungmesh.pullSecrets" -}}
{{- with .Values.image.pullSecrets -}}
imagePullSecrets:
  {{- range . }}
  - name: {{ . }}
  {{- end }}
{{- end }}
{{- end -}}

{{- define "lungmesh.facts" -}}
{{ .Files.Get "files/services.yaml" }}
{{- end -}}

{{- define "lungmesh.kafka.bootstrap" -}}
{{- if .Values.kafka.strimzi.enabled }}{{ include "lungmesh.fullname" . }}-kafka-kafka-bootstrap.{{ .Release.Namespace }}.svc:9093{{ else }}{{ .Values.kafka.bootstrap }}{{ end -}}
{{- end -}}

{{- /* What a client of Kafka needs, whoever runs it: as JSON. */ -}}
{{- define "lungmesh.kafka.access" -}}
{{- $name := include "lungmesh.fullname" . -}}
{{- if .Values.kafka.strimzi.enabled -}}
{{- dict "tls" true "ca" (dict "name" (printf "%s-kafka-cluster-ca-cert" $name) "key" "ca.crt") "username" (printf "%s-services" $name) "password" (dict "name" (printf "%s-services" $name) "key" "password") "replicas" (min 3 (int .Values.kafka.strimzi.brokers)) | toJson -}}
{{- else -}}
{{- $ca := dict -}}
{{- if .Values.kafka.tls.caSecret.name }}{{ $ca = .Values.kafka.tls.caSecret }}{{ end -}}
{{- dict "tls" .Values.kafka.tls.enabled "ca" $ca "username" .Values.kafka.sasl.username "password" .Values.kafka.sasl.secret "replicas" .Values.kafka.replicationFactor | toJson -}}
{{- end -}}
{{- end -}}

{{- /* The database's URL and authority, whoever runs it: as JSON. */ -}}
{{- define "lungmesh.database.access" -}}
{{- $name := include "lungmesh.fullname" . -}}
{{- if .Values.database.cloudnativepg.enabled -}}
{{- dict "url" (dict "name" (printf "%s-postgres-app" $name) "key" "uri") "ca" (dict "name" (printf "%s-postgres-ca" $name) "key" "ca.crt") | toJson -}}
{{- else -}}
{{- $ca := dict -}}
{{- if .Values.database.caSecret.name }}{{ $ca = .Values.database.caSecret }}{{ end -}}
{{- dict "url" .Values.database.secret "ca" $ca | toJson -}}
{{- end -}}
{{- end -}}

{{- define "lungmesh.triton.address" -}}
{{- if .Values.triton.enabled }}{{ include "lungmesh.fullname" . }}-triton:8001{{ else }}{{ .Values.triton.address }}{{ end -}}
{{- end -}}

{{- /* Whether a PACS commits what it stored, and so calls delivery back. */ -}}
{{- define "lungmesh.commitments" -}}
{{- range .Values.tenants }}{{ range .destinations }}{{ if .commitment }}yes{{ end }}{{ end }}{{ end -}}
{{- end -}}

{{- define "lungmesh.podSecurity" -}}
runAsNonRoot: true
runAsUser: 10001
runAsGroup: 10001
fsGroup: 10001
fsGroupChangePolicy: OnRootMismatch
seccompProfile: {type: RuntimeDefault}
{{- end -}}

{{- define "lungmesh.containerSecurity" -}}
allowPrivilegeEscalation: false
readOnlyRootFilesystem: true
capabilities: {drop: [ALL]}
{{- end -}}

{{- /* (root, component) */ -}}
{{- define "lungmesh.spread" -}}
topologySpreadConstraints:
{{- range list "topology.kubernetes.io/zone" "kubernetes.io/hostname" }}
  - maxSkew: 1
    topologyKey: {{ . }}
    whenUnsatisfiable: ScheduleAnyway
    labelSelector:
      matchLabels:
        {{- include "lungmesh.selector" $ | nindent 8 }}
    matchLabelKeys: [pod-template-hash]
{{- end }}
{{- end -}}
