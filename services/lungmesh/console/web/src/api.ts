// The console's HTTP API: JSON, one session cookie, one CSRF token for every unsafe method.

export interface StageRow {
  stage: string;
  state: string;
  fraction: number;
  detail: string;
  seconds: number;
}

export interface StudyRow {
  study_id: string;
  tenant: string;
  patient: string;
  study_date: string;
  priority: string;
  outcome: string;
  reason: string;
  category: string;
  stages: StageRow[];
  received_at: string | null;
  finished_at: string | null;
  due_date: string;
  escalation: string;
  signed_by: string | null;
  signed_at: string | null;
  edition: number;
  revision: number;
  work_up?: boolean;
}

export interface ModelVersion {
  name: string;
  version: string;
}

export interface Fact {
  name: string;
  value: string;
  unit?: string;
}

export interface Category {
  guideline: ModelVersion;
  source: string;
  category?: string;
  row?: string;
  management_en?: string;
  management_zh?: string;
  next_exam_months?: number;
  needs?: string[];
  facts?: Fact[];
  alternatives?: { category?: string; row: string; change: Fact }[];
}

export interface PastSize {
  study_id: string;
  nodule_id: string;
  study_date: string;
  interval_days: number;
  mean_diameter_mm: number;
  volume_mm3: number;
}

export interface PriorMatch extends PastSize {
  diameter_change_mm?: number;
  volume_change_percent?: number;
  volume_doubling_time_days?: number;
  volume_doubling_time_low_days?: number;
  volume_doubling_time_high_days?: number;
  growth_probability?: number;
  volume_error_percent?: number;
  warnings?: string[];
}

export interface Risk {
  model: ModelVersion;
  source: string;
  probability?: number;
  low: number;
  high: number;
  missing?: string[];
  outside_intended_use?: string[];
}

export interface ReaderScore {
  model: ModelVersion;
  basis: string;
  probability: number;
}

export interface Nodule {
  number: number;
  nodule_id: string;
  tracking_uid: string;
  center_lps_mm: [number, number, number];
  slice_sop_instance_uid: string;
  slice_index: number;
  type: string;
  lobe: string;
  mean_diameter_mm: number;
  long_axis_mm: number;
  short_axis_mm: number;
  volume_mm3: number;
  solid_mean_diameter_mm: number;
  solid_volume_mm3: number;
  mean_hu?: number;
  mass_mg?: number;
  score: number;
  growth: string;
  shown_earlier: boolean;
  outcome?: string;
  categories: Category[];
  history: PastSize[];
  priors?: PriorMatch[];
  risks?: Risk[];
  reader_score?: ReaderScore | null;
  signs?: { name: string; present?: boolean; score: number }[];
  review: { status: string; correction_ids?: string[]; measured_by_hand: string[] };
}

export interface Correction {
  correction_id: string;
  kind: string;
  nodule_id: string;
  author: string;
  at: string;
  type?: string;
  withdraws?: string;
  measurement?: Record<string, number>;
  other?: { study_id: string; nodule_id: string };
}

export interface Geometry {
  size: [number, number, number];
  spacing_mm: [number, number, number];
  origin_lps_mm: [number, number, number];
  direction: number[];
}

export interface Series {
  study_instance_uid: string;
  series_instance_uid: string;
  slices: string[];
  geometry: Geometry;
}

export interface Prior {
  study_id: string;
  study_date: string;
  registered: boolean;
  /** Whether the console can show it. */
  held: boolean;
  interval_days?: number;
  warnings?: string[];
}

export interface Study {
  row: StudyRow;
  nodules: Nodule[];
  rejected: Nodule[];
  exam_categories: Category[];
  next: { guideline: ModelVersion; category: string; due_date: string; work_up: boolean } | null;
  priors: Prior[];
  corrections: Correction[];
  models: ModelVersion[];
  qc: { code: string; severity: string; message_en: string; message_zh: string }[];
  report: { content_sha256: string; edition: number; artefacts: string[] } | null;
  series: Series | null;
  signatures: { author: string; at: string; edition: number }[];
}

export interface Mask {
  offset: [number, number, number];
  size: [number, number, number];
  rle: number[][];
}

export interface Session {
  user: string;
  roles: string[];
  tenants: string[];
  csrf: string;
  language?: string;
  /** Whether the password is kept here. */
  local?: boolean;
}

export interface User {
  name: string;
  roles: string[];
  tenants: string[];
  disabled: boolean;
  /** Whether the password is kept here. */
  local: boolean;
}

export interface Operations {
  stages: Record<string, string | number>[];
  dead_letters: Record<string, string | number>[];
  models: Record<string, string | number>[];
  destinations: Record<string, string | number>[];
}

/** A study whose volume is known. */
export type ReadStudy = Study & { series: Series };

/** What the server refused, in both languages. */
export class Refused extends Error {
  constructor(
    readonly status: number,
    readonly code: string,
    readonly texts: { en: string; zh: string },
  ) {
    super(texts.en);
  }
}

let csrf = "";
let onLoss = (): void => undefined;

/** Says what happens when the session has ended. */
export function whenSessionEnds(then: () => void): void {
  onLoss = then;
}

/** The session that is open now: what is said in it is never sent in another, which may be another user's. */
export const sessionNow = (): string => csrf;

async function call<T>(method: string, path: string, body?: unknown, session = csrf): Promise<T> {
  const headers: Record<string, string> = { Accept: "application/json" };
  if (method !== "GET") headers["X-CSRF-Token"] = session;
  if (body !== undefined) headers["Content-Type"] = "application/json";
  const answer = await fetch(path, {
    method,
    headers,
    credentials: "same-origin",
    body: body === undefined ? undefined : JSON.stringify(body),
  });
  if (!answer.ok) throw await refusal(answer);
  return (answer.status === 204 ? undefined : await answer.json()) as T;
}

async function refusal(answer: Response): Promise<Refused> {
  const told = (await answer.json().catch(() => ({}))) as Record<string, string>;
  if (told.error === "no_session") onLoss();
  return new Refused(answer.status, told.error ?? "unknown", {
    en: told.message_en ?? `The server answered ${answer.status}.`,
    zh: told.message_zh ?? `服务器返回 ${answer.status}。`,
  });
}

/** The session, null when nobody is signed in; and whether the hospital's own login is offered. */
export async function getSession(): Promise<{ session: Session | null; oidc: boolean }> {
  const answer = await fetch("/api/session", { credentials: "same-origin" });
  const told = (await answer.json()) as Session & { oidc?: boolean };
  if (!answer.ok) return { session: null, oidc: told.oidc === true };
  csrf = told.csrf;
  return { session: told, oidc: told.oidc === true };
}

export const keepLanguage = (language: string): Promise<void> =>
  call("POST", "/api/language", { language });

export const login = (user: string, password: string): Promise<void> =>
  call("POST", "/api/login", { user, password });

export const logout = (): Promise<void> => call("POST", "/api/logout");

export function getWorklist(
  filter: Record<string, string>,
): Promise<{ studies: StudyRow[]; next_page: string }> {
  const given = Object.entries(filter).filter(([, value]) => value !== "");
  return call("GET", `/api/worklist?${new URLSearchParams(given)}`);
}

/** Tells of each row that changes, of a tenant's studies or of all of the session's, until it is closed. */
export function rowEvents(tenant: string, then: (row: StudyRow) => void): EventSource {
  const events = new EventSource(`/api/events?${new URLSearchParams(tenant ? { tenant } : {})}`);
  events.addEventListener("study", (event) =>
    then(JSON.parse((event as MessageEvent<string>).data) as StudyRow),
  );
  return events;
}

const study = (id: string): string => `/api/studies/${encodeURIComponent(id)}`;

export const getStudy = (id: string): Promise<Study> => call("GET", study(id));

/** DICOM JSON of the volume's slices, in z order. */
export const getHeaders = (id: string): Promise<Record<string, unknown>[]> =>
  call("GET", `${study(id)}/headers`);

/** The masks by nodule, of the rejected ones too. */
export const getMasks = (id: string): Promise<{ masks: Record<string, Mask> }> =>
  call("GET", `${study(id)}/masks`);

/** Sends what was said in a session; the same again, by its id, changes nothing. */
export const correct = (
  id: string,
  correction: { correction_id: string; nodule_id: string } & Record<string, unknown>,
  session: string,
): Promise<Study> => call("POST", `${study(id)}/corrections`, correction, session);

/** A state of a study that a reader can have read. */
export interface Edition {
  revision: number;
  edition: number;
}

export const sign = (id: string, password: string, read: Edition): Promise<unknown> =>
  call("POST", `${study(id)}/sign`, { password, revision: read.revision, edition: read.edition });

export const reportUrl = (id: string, name: string, { revision, edition }: Edition): string =>
  `${study(id)}/report/${encodeURIComponent(name)}?revision=${revision}&edition=${edition}`;

export async function getReportText(url: string): Promise<string> {
  const answer = await fetch(url, { credentials: "same-origin" });
  if (!answer.ok) throw await refusal(answer);
  return answer.text();
}

export const getOperations = (): Promise<Operations> => call("GET", "/api/operations");

export const replay = (event: string): Promise<unknown> =>
  call("POST", `/api/operations/dead-letters/${encodeURIComponent(event)}/replay`);

export const getAudit = (
  page: string,
): Promise<{ entries: Record<string, string | number>[]; next_page: string }> =>
  call("GET", `/api/audit?${new URLSearchParams(page ? { page } : {})}`);

export const getUsers = (): Promise<{ users: User[] }> => call("GET", "/api/users");

export const putUser = (
  name: string,
  said: Pick<User, "roles" | "tenants" | "disabled"> & { password: string | null },
): Promise<void> => call("PUT", `/api/users/${encodeURIComponent(name)}`, said);

export const changePassword = (old: string, fresh: string): Promise<void> =>
  call("POST", "/api/password", { old, new: fresh });

export const dicomweb = (series: Series): string =>
  `/dicomweb/studies/${series.study_instance_uid}/series/${series.series_instance_uid}`;
