package dagspec

import (
	"path/filepath"
	"strings"
	"testing"
)

const deadlineFunctions = `
from airflow.sdk import BaseNotifier

def late(**kwargs): pass
async def alate(context, level=1): pass
class Tell(BaseNotifier):
    def __init__(self, text): self.text = text
    def notify(self, context): pass
LIMIT = 5
`

// loadDeadline loads a DAG with this deadline: value.
func loadDeadline(t *testing.T, value string, strict bool) *Result {
	t.Helper()
	dir, opt, py := malformedDir(t)
	t.Cleanup(func() { py.Close() })
	write(t, dir, "cbs.py", deadlineFunctions)
	write(t, dir, "dag.yml", "d:\n  start_date: 2025-01-01\n  tasks: [{task_id: a, operator: airflow.providers.standard.operators.empty.EmptyOperator}]\n  deadline: "+value+"\n")
	opt.Strict = strict
	return Load(Dir{}, filepath.Join(dir, "dag.yml"), opt)
}

// TestDeadline checks the serialized form of every way to write an alert.
func TestDeadline(t *testing.T) {
	const (
		halfHour = `"interval":{"__classname__":"datetime.timedelta","__version__":2,"__data__":1800.0}`
		late     = `"callback":{"__classname__":"airflow.sdk.definitions.callback.SyncCallback","__version__":0,"__data__":{"path":"cbs.late","kwargs":{},"executor":null}}`
		queued   = `{"reference_type":"DagRunQueuedAtDeadline"}`
	)
	for in, want := range map[string]string{
		`{__type__: airflow.sdk.DeadlineAlert, reference: {__type__: airflow.sdk.DeadlineReference.DAGRUN_QUEUED_AT}, interval: {__type__: datetime.timedelta, minutes: 30},
    callback: {__type__: airflow.sdk.AsyncCallback, callback_callable: cbs.alate, kwargs: {level: 2, at: 2026-01-01 00:00:00, after: {__type__: datetime.timedelta, hours: 1}, x: [1, null, {y: 2.5}]}}}`: `[{"name":null,"reference":` + queued + `,` + halfHour +
			`,"callback":{"__classname__":"airflow.sdk.definitions.callback.AsyncCallback","__version__":0,"__data__":{"path":"cbs.alate","kwargs":{"level":2,"at":{"__classname__":"datetime.datetime","__version__":2,"__data__":{"timestamp":1767225600.0,"tz":{"__classname__":"builtins.tuple","__version__":1,"__data__":["UTC","pendulum.tz.timezone.Timezone",1,true]}}},"after":{"__classname__":"datetime.timedelta","__version__":2,"__data__":3600.0},"x":[1,null,{"y":2.5}]}}}}]`,
		`[{__type__: airflow.sdk.definitions.deadline.DeadlineAlert, name: slow, __args__: [{__type__: airflow.sdk.definitions.deadline.AverageRuntimeDeadline, max_runs: 5, min_runs: 2}, {__type__: datetime.timedelta, minutes: 30}, {__type__: airflow.sdk.SyncCallback, path: cbs.late}]},
    {reference: DAGRUN_LOGICAL_DATE, interval: 1800, callback: cbs.late}]`: `[{"name":"slow","reference":{"reference_type":"AverageRuntimeDeadline","max_runs":5,"min_runs":2},` + halfHour + `,` + late +
			`},{"name":null,"reference":{"reference_type":"DagRunLogicalDateDeadline"},` + halfHour + `,` + late + `}]`,
		`{reference: {__type__: airflow.sdk.DeadlineReference.FIXED_DATETIME, dt: 2025-01-01 00:00:00}, interval: -0.5, callback: {callback: cbs.Tell, text: "{{ deadline.deadline_time }}"}}`: `[{"name":null,"reference":{"reference_type":"FixedDatetimeDeadline","datetime":1735689600.0},"interval":{"__classname__":"datetime.timedelta","__version__":2,"__data__":-0.5},` +
			`"callback":{"__classname__":"airflow.sdk.definitions.callback.SyncCallback","__version__":0,"__data__":{"path":"cbs.Tell","kwargs":{"text":"{{ deadline.deadline_time }}"},"executor":null}}}]`,
		`{reference: {__type__: airflow.sdk.DeadlineReference.AVERAGE_RUNTIME}, interval: 1800, callback: {type: webhook, url: "http://x"}}`: `[{"name":null,"reference":{"reference_type":"AverageRuntimeDeadline","max_runs":10,"min_runs":10},` + halfHour + `,"callback":{"__type":"dict","__var":{"type":"webhook","url":"http://x"}}}]`,
		`{reference: DeadlineReference.DAGRUN_QUEUED_AT, interval: 1800, callback: {callback: airflow.providers.slack.notifications.slack_webhook.send_slack_webhook_notification, text: late}}`: `[{"name":null,"reference":` + queued + `,` + halfHour +
			`,"callback":{"__classname__":"airflow.sdk.definitions.callback.SyncCallback","__version__":0,"__data__":{"path":"airflow.providers.slack.notifications.slack_webhook.SlackWebhookNotifier","kwargs":{"text":"late"},"executor":null}}}]`,
		`null`: `null`,
	} {
		res := loadDeadline(t, in, false)
		if err := res.Err(); err != nil {
			t.Errorf("%s: %v", in, err)
			continue
		}
		if got := string(res.DAGs[0].Document); !strings.Contains(got, `"deadline":`+want+`,"allowed_run_types"`) {
			i := max(strings.Index(got, `"deadline":`), 0)
			t.Errorf("%s\ngave %.900s\nwant %s", in, got[i:], want)
		}
		for i, raw := range res.DAGs[0].DAG.Deadlines {
			if !strings.Contains(string(raw), "reference_type") {
				t.Errorf("alert %d was not read back: %s", i, raw)
			}
		}
		if strict := loadDeadline(t, in, true); strict.Err() == nil && !strings.Contains(string(strict.DAGs[0].Document), `"deadline":null`) {
			t.Errorf("%s: strict mode keeps what dag-factory drops", in)
		}
	}
}

func TestDeadlineProblems(t *testing.T) {
	for in, want := range map[string]string{
		`5`: "DeadlineAlert or a list",
		`{reference: DAGRUN_QUEUED, interval: 1, callback: cbs.late}`:                                                                                         "DAGRUN_QUEUED_AT",
		`{reference: FIXED_DATETIME, interval: 1, callback: cbs.late}`:                                                                                        "needs a date",
		`{reference: {__type__: airflow.sdk.DeadlineReference.AVERAGE_RUNTIME, min_runs: 0}, interval: 1, callback: cbs.late}`:                                "min_runs must be at least 1",
		`{reference: DAGRUN_QUEUED_AT, interval: soon, callback: cbs.late}`:                                                                                   "interval expects a timedelta",
		`{reference: DAGRUN_QUEUED_AT, callback: cbs.late}`:                                                                                                   "missing 1 required positional argument: 'interval'",
		`{reference: DAGRUN_QUEUED_AT, interval: 1, callback: {type: pigeon}}`:                                                                                "callback type 'pigeon'",
		`{reference: DAGRUN_QUEUED_AT, interval: 1, callback: [cbs.late]}`:                                                                                    "Callbacks of type list",
		`{reference: DAGRUN_QUEUED_AT, interval: 1, callback: nodots}`:                                                                                        "doesn't look like a valid dot path",
		`{reference: DAGRUN_QUEUED_AT, interval: 1, callback: {__type__: airflow.sdk.AsyncCallback, callback_callable: cbs.late}}`:                            "not awaitable",
		`{reference: DAGRUN_QUEUED_AT, interval: 1, callback: {__type__: airflow.sdk.SyncCallback, callback_callable: cbs.LIMIT}}`:                            "not callable",
		`{reference: DAGRUN_QUEUED_AT, interval: 1, callback: {callback: cbs.late, context: 1}}`:                                                              "reserved",
		`{reference: {__type__: airflow.sdk.DeadlineReference.FIXED_DATETIME, dt: "2025-01-01"}, interval: 1, callback: cbs.late}`:                            "timestamp",
		`{reference: DAGRUN_QUEUED_AT, interval: 1, callback: {__type__: airflow.sdk.SyncCallback, callback_callable: cbs.late, kwargs: {a: !!set {x, y}}}}`:  "serialize",
		`{reference: DAGRUN_QUEUED_AT, interval: 1, callback: {__type__: airflow.sdk.SyncCallback, callback_callable: cbs.late, oops: 1}}`:                    "unexpected keyword argument 'oops'",
		`{reference: DAGRUN_QUEUED_AT, interval: {__type__: airflow.sdk.definitions.deadline.VariableInterval, __args__: [x]}, callback: cbs.late, extra: 3}`: "unexpected keyword argument 'extra'",
		`[{reference: NOPE, interval: x, callback: [1]}, {reference: DAGRUN_QUEUED_AT, interval: 1, callback: {callback: cbs.late, a: !!set {x}}}, 7]`:        "interval expects",
	} {
		res := loadDeadline(t, in, false)
		err := res.Err()
		if err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("%s: %v, want %q", in, err, want)
			continue
		}
		for _, p := range res.Problems {
			if p.Line < 4 {
				t.Errorf("%s: line %d of %s", in, p.Line, p)
			}
		}
	}
	res := loadDeadline(t, `{reference: DAGRUN_QUEUED_AT, interval: 1, callback: {__type__: airflow.sdk.SyncCallback, callback_callable: nowhere.fn, executor: x}}`, false)
	if err := res.Err(); err != nil || len(res.Warnings) != 3 {
		t.Errorf("a path that cannot be imported is a warning, as in Airflow: %v %v", err, res.Warnings)
	}
	if res := loadDeadline(t, `{__type__: airflow.sdk.DeadlineAlert, __args__: [1, 2, cbs.late]}`, true); res.Err() == nil || !strings.Contains(res.Err().Error(), "Callbacks of type str") {
		t.Errorf("strict: %v", res.Err())
	}
}
