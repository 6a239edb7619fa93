{{- /*
The pod of every service, and of its preparation (migrations and topics) before an upgrade.
(root, service, prepare)
*/ -}}
{{- define "lungmesh.pod" -}}
{{- $root := .root -}}
{{- $service := .service -}}
{{- $values := index $root.Values.services $service -}}
{{- $facts := index (include "lungmesh.facts" $root | fromYaml) $service -}}
{{- $name := include "lungmesh.fullname" $root -}}
{{- $kafka := include "lungmesh.kafka.access" $root | fromJson -}}
{{- $database := include "lungmesh.database.access" $root | fromJson -}}
{{- $files := hasPrefix "file://" $root.Values.objectStore.url -}}
metadata:
  labels:
    {{- include "lungmesh.labels" (dict "root" $root "component" $service) | nindent 4 }}
    lungmesh/role: {{ ternary "prepare" "serve" .prepare }}
spec:
  serviceAccountName: {{ $name }}-{{ $service }}
  automountServiceAccountToken: false
  enableServiceLinks: false
  {{- with include "lungmesh.pullSecrets" $root }}
  {{- . | nindent 2 }}
  {{- end }}
  {{- if $root.Values.priorityClasses.create }}
  priorityClassName: {{ $name }}-{{ $values.priority }}
  {{- end }}
  securityContext:
    {{- include "lungmesh.podSecurity" $root | nindent 4 }}
  {{- if .prepare }}
  restartPolicy: Never
  {{- else }}
  # A service drains for 25 s, and its server for as long after it.
  terminationGracePeriodSeconds: 75
  {{- include "lungmesh.spread" (dict "root" $root "component" $service) | nindent 2 }}
  {{- end }}
  {{- with $values.nodeSelector }}
  nodeSelector:
    {{- toYaml . | nindent 4 }}
  {{- end }}
  {{- with $values.tolerations }}
  tolerations:
    {{- toYaml . | nindent 4 }}
  {{- end }}
  containers:
    - name: {{ $service }}
      image: {{ include "lungmesh.image" (dict "root" $root "image" $root.Values.image) }}
      imagePullPolicy: {{ $root.Values.image.pullPolicy }}
      {{- if .prepare }}
      command: [python, -m, lungmesh.mesh.prepare, {{ $service }}]
      {{- else }}
      args: [serve, {{ $service }}]
      {{- end }}
      securityContext:
        {{- include "lungmesh.containerSecurity" $root | nindent 8 }}
      env:
        {{- include "lungmesh.env" (dict "root" $root "service" $service "values" $values "facts" $facts "kafka" $kafka "database" $database) | nindent 8 }}
      {{- if not .prepare }}
      ports:
        - {name: grpc, containerPort: 50051}
        - {name: metrics, containerPort: 9090}
        {{- range $port, $number := $facts.ports }}
        - {name: {{ $port }}, containerPort: {{ $number }}}
        {{- end }}
      # /livez answers from the first second on, through migrations too.
      livenessProbe:
        httpGet: {path: /livez, port: metrics}
        periodSeconds: 10
        timeoutSeconds: 5
        failureThreshold: 6
      readinessProbe:
        {{- if $root.Values.tls.enabled }}
        # The kubelet's gRPC probe speaks no TLS; /readyz says the same as the health service, with the reason.
        httpGet: {path: /readyz, port: metrics}
        {{- else }}
        grpc: {port: 50051}
        {{- end }}
        periodSeconds: 5
        timeoutSeconds: 3
      {{- end }}
      resources:
        {{- toYaml $values.resources | nindent 8 }}
      volumeMounts:
        - {name: tmp, mountPath: /tmp}
        {{- if $facts.folder }}
        - {name: folder, mountPath: /data}
        {{- end }}
        {{- if $files }}
        - {name: blobs, mountPath: {{ trimPrefix "file://" $root.Values.objectStore.url }}}
        {{- end }}
        {{- if $root.Values.tls.enabled }}
        - {name: tls, mountPath: /tls/service, readOnly: true}
        {{- end }}
        {{- if $kafka.ca }}
        - {name: kafka-ca, mountPath: /tls/kafka, readOnly: true}
        {{- end }}
        {{- if and $facts.database $database.ca }}
        - {name: database-ca, mountPath: /tls/database, readOnly: true}
        {{- end }}
        {{- if and $root.Values.dicom.tlsSecret (eq $service "ingest") }}
        - {name: dicom-tls, mountPath: /tls/dicom, readOnly: true}
        {{- end }}
        {{- range $folder, $_ := $values.files }}
        - {name: file-{{ $folder }}, mountPath: /secrets/{{ $folder }}, readOnly: true}
        {{- end }}
  volumes:
    - name: tmp
      emptyDir: {sizeLimit: 2Gi}
    {{- range $folder, $secret := $values.files }}
    - name: file-{{ $folder }}
      secret: {secretName: {{ $secret }}, defaultMode: 0440}
    {{- end }}
    {{- if $facts.folder }}
    - name: folder
      {{- if .prepare }}
      # The running process holds the volume; the preparation needs none of it.
      emptyDir: {sizeLimit: 16Mi}
      {{- else }}
      persistentVolumeClaim: {claimName: {{ $name }}-{{ $service }}}
      {{- end }}
    {{- end }}
    {{- if $files }}
    - name: blobs
      persistentVolumeClaim: {claimName: {{ $name }}-blobs}
    {{- end }}
    {{- if $root.Values.tls.enabled }}
    - name: tls
      secret: {secretName: {{ $name }}-{{ $service }}-tls, defaultMode: 0440}
    {{- end }}
    {{- with $kafka.ca }}
    - name: kafka-ca
      secret:
        secretName: {{ .name }}
        defaultMode: 0440
        items: [{key: {{ .key }}, path: ca.crt}]
    {{- end }}
    {{- if $facts.database }}
    {{- with $database.ca }}
    - name: database-ca
      secret:
        secretName: {{ .name }}
        defaultMode: 0440
        items: [{key: {{ .key }}, path: ca.crt}]
    {{- end }}
    {{- end }}
    {{- if and $root.Values.dicom.tlsSecret (eq $service "ingest") }}
    - name: dicom-tls
      secret: {secretName: {{ $root.Values.dicom.tlsSecret }}, defaultMode: 0440}
    {{- end }}
{{- end -}}

{{- define "lungmesh.env" -}}
{{- $root := .root -}}
{{- $name := include "lungmesh.fullname" $root -}}
{{- $own := printf "LUNGMESH_%s__" (upper .service) -}}
# Libraries that keep a cache find their home in the only folder that can be written.
- {name: HOME, value: /tmp}
- {name: LUNGMESH_GRPC_HOST, value: 0.0.0.0}
- {name: LUNGMESH_GRPC_PORT, value: "50051"}
- {name: LUNGMESH_METRICS_HOST, value: 0.0.0.0}
- {name: LUNGMESH_METRICS_PORT, value: "9090"}
- {name: LUNGMESH_LOG_LEVEL, value: {{ $root.Values.telemetry.logLevel }}}
{{- with $root.Values.telemetry.otlpEndpoint }}
- {name: LUNGMESH_OTLP_ENDPOINT, value: {{ . | quote }}}
{{- end }}
- {name: LUNGMESH_KAFKA__BOOTSTRAP, value: {{ include "lungmesh.kafka.bootstrap" $root | quote }}}
- {name: LUNGMESH_KAFKA__PARTITIONS, value: {{ $root.Values.kafka.partitions | quote }}}
- {name: LUNGMESH_KAFKA__REPLICATION_FACTOR, value: {{ .kafka.replicas | quote }}}
- {name: LUNGMESH_KAFKA__SECURITY_PROTOCOL, value: {{ printf "%s%s" (ternary "SASL_" "" (ne .kafka.username "")) (ternary "SSL" "PLAINTEXT" .kafka.tls) }}}
{{- if .kafka.username }}
- {name: LUNGMESH_KAFKA__SASL_MECHANISM, value: SCRAM-SHA-512}
- {name: LUNGMESH_KAFKA__SASL_USERNAME, value: {{ .kafka.username | quote }}}
- name: LUNGMESH_KAFKA__SASL_PASSWORD
  valueFrom: {secretKeyRef: {name: {{ .kafka.password.name }}, key: {{ .kafka.password.key }}}}
{{- end }}
{{- if .kafka.ca }}
- {name: LUNGMESH_KAFKA__SSL_CAFILE, value: /tls/kafka/ca.crt}
{{- end }}
- {name: LUNGMESH_BLOBS_URL, value: {{ $root.Values.objectStore.url | quote }}}
{{- with $root.Values.objectStore.endpoint }}
- {name: AWS_ENDPOINT, value: {{ . | quote }}}
{{- end }}
{{- with $root.Values.objectStore.region }}
- {name: AWS_REGION, value: {{ . | quote }}}
{{- end }}
{{- with $root.Values.objectStore.secret }}
{{- if .name }}
- name: AWS_ACCESS_KEY_ID
  valueFrom: {secretKeyRef: {name: {{ .name }}, key: {{ .accessKey }}}}
- name: AWS_SECRET_ACCESS_KEY
  valueFrom: {secretKeyRef: {name: {{ .name }}, key: {{ .secretKey }}}}
{{- end }}
{{- end }}
{{- if .facts.database }}
- name: LUNGMESH_DATABASE_URL
  valueFrom: {secretKeyRef: {name: {{ .database.url.name }}, key: {{ .database.url.key }}}}
{{- if .database.ca }}
- {name: PGSSLMODE, value: verify-full}
- {name: PGSSLROOTCERT, value: /tls/database/ca.crt}
{{- end }}
{{- end }}
{{- if $root.Values.tls.enabled }}
- {name: LUNGMESH_TLS__CERTIFICATE, value: /tls/service/tls.crt}
- {name: LUNGMESH_TLS__KEY, value: /tls/service/tls.key}
- {name: LUNGMESH_TLS__AUTHORITY, value: /tls/service/ca.crt}
{{- end }}
{{- if and (eq .service "console") $root.Values.ingress.enabled }}
# Only the ingress controller reaches the page (network policy): its word on the client's address counts.
- {name: FORWARDED_ALLOW_IPS, value: "*"}
{{- end }}
{{- range $port, $number := .facts.ports }}
- {name: {{ $own }}{{ upper $port }}_HOST, value: 0.0.0.0}
- {name: {{ $own }}{{ upper $port }}_PORT, value: {{ $number | quote }}}
{{- end }}
{{- range $setting, $peer := .facts.peers }}
- {name: {{ $own }}{{ $setting }}, value: {{ printf "%s-%s:50051" $name $peer | quote }}}
{{- end }}
{{- with .facts.folder }}
- {name: {{ $own }}{{ . }}, value: /data}
{{- end }}
{{- range $setting, $value := include (printf "lungmesh.settings.%s" .service) $root | fromYaml }}
- {name: {{ $own }}{{ $setting }}, value: {{ $value | quote }}}
{{- end }}
{{- range $setting, $value := .values.settings }}
- {name: {{ $own }}{{ $setting }}, value: {{ ternary $value (toJson $value) (kindIs "string" $value) | quote }}}
{{- end }}
{{- range $setting, $secret := .values.secrets }}
- name: {{ $own }}{{ $setting }}
  valueFrom: {secretKeyRef: {name: {{ $secret.name }}, key: {{ $secret.key }}}}
{{- end }}
{{- end -}}

{{- /* What a service's settings take from the values that concern several services. */ -}}
{{- define "lungmesh.settings.ingest" -}}
{{- $titles := dict -}}
{{- range $tenant := .Values.tenants }}{{ range $tenant.aeTitles }}{{ $_ := set $titles . $tenant.name }}{{ end }}{{ end -}}
TENANTS: {{ toJson $titles | quote }}
{{- if .Values.dicom.tlsSecret }}
DICOM_TLS__CERTIFICATE: /tls/dicom/tls.crt
DICOM_TLS__KEY: /tls/dicom/tls.key
DICOM_TLS__AUTHORITY: /tls/dicom/ca.crt
{{- end }}
{{- end -}}
{{- define "lungmesh.settings.preprocess" }}{}{{ end -}}
{{- define "lungmesh.settings.detection" -}}
TRITON: {{ include "lungmesh.triton.address" . | quote }}
# Pods share no memory with Triton's.
SHARED_MEMORY: "off"
{{- end -}}
{{- define "lungmesh.settings.malignancy" }}{}{{ end -}}
{{- define "lungmesh.settings.followup" -}}
{{- $guidelines := dict -}}
{{- range .Values.tenants }}{{ if .guideline }}{{ $_ := set $guidelines .name .guideline }}{{ end }}{{ end -}}
TENANT_GUIDELINES: {{ toJson $guidelines | quote }}
{{- end -}}
{{- define "lungmesh.settings.report" }}{}{{ end -}}
{{- define "lungmesh.settings.delivery" -}}
{{- $destinations := list -}}
{{- range $tenant := .Values.tenants }}{{ range $tenant.destinations }}{{ $destinations = append $destinations (merge (dict "tenant" $tenant.name) .) }}{{ end }}{{ end -}}
{{- if $destinations }}DESTINATIONS: {{ toJson $destinations | quote }}{{ else }}{}{{ end }}
{{- end -}}
{{- define "lungmesh.settings.mdt" }}{}{{ end -}}
{{- define "lungmesh.settings.console" -}}
{{- $names := list -}}
{{- range .Values.tenants }}{{ $names = append $names .name }}{{ end -}}
FIRST_PASSWORD_FILE: /tmp/first-password
FIRST_TENANTS: {{ toJson $names | quote }}
{{- if .Values.ingress.enabled }}
PUBLIC_URL: https://{{ .Values.ingress.console.host }}
{{- end }}
{{- end -}}
