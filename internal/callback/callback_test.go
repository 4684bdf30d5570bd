package callback_test

import (
	"bufio"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/gustflow/gust/internal/airflow"
	"github.com/gustflow/gust/internal/callback"
	"github.com/gustflow/gust/internal/operator"
	"github.com/gustflow/gust/internal/worker"
	"github.com/gustflow/gust/internal/worker/pyproc"
	"github.com/gustflow/gust/internal/worker/taskrunner"
	"github.com/gustflow/gust/internal/worker/workertest"
)

const module = `
from airflow.sdk import BaseNotifier, Variable
def on_fail(context):
    print("CB", context["ti"].task_id, context["ti"].state, type(context["exception"]).__name__, context["exception"])
def on_ok(context, channel="none", level=1):
    print("CB", channel, level, context["ds"], Variable.get("v", default="unset"))
def dag_cb(context):
    print("CB", context["dag_run"].run_id, context["reason"])
def broken(context):
    raise RuntimeError("in the callback")
def late(**kwargs):
    print("CB", sorted(kwargs), kwargs["context"]["dag_run"]["dag_run_id"], kwargs["context"]["deadline"]["deadline_time"], kwargs.get("after"))
async def alate(channel):
    print("CB", channel, "without context")
class MyNotifier(BaseNotifier):
    template_fields = ("message",)
    def __init__(self, message, level=0):
        super().__init__()
        self.message, self.level = message, level
    def notify(self, context):
        print("CB", self.message, self.level)
`

type fixture struct {
	dir  string
	host *pyproc.Host
	b    *workertest.Backend
	log  *workertest.Log
	r    *callback.Runner
	// indexes are the map indexes that logs were opened for.
	indexes []int
}

func setup(t *testing.T, change func(*callback.Options)) *fixture {
	t.Helper()
	f := &fixture{dir: t.TempDir(), b: workertest.NewBackend(), log: &workertest.Log{}}
	if err := os.WriteFile(filepath.Join(f.dir, "cb.py"), []byte(module), 0o600); err != nil {
		t.Fatal(err)
	}
	f.host = pyproc.NewHost("", t.TempDir(), "test", 1)
	t.Cleanup(f.host.Close)
	o := callback.Options{
		Reader: f.b, Python: f.host, Environ: []string{"PATH=" + os.Getenv("PATH")},
		OpenLog: func(_ *worker.TaskContext, mapIndex int, _ string) (taskrunner.LogSink, error) {
			f.indexes = append(f.indexes, mapIndex)
			return noClose{f.log}, nil
		},
		BundleDir: func(context.Context, airflow.DagRun) (string, error) { return f.dir, nil },
	}
	if change != nil {
		change(&o)
	}
	f.r = callback.New(o)
	return f
}

type noClose struct{ *workertest.Log }

func (noClose) Close() error { return nil }

func dagWith(t *testing.T, name, spec string) *airflow.DAG {
	return workertest.DAG(t, "", `{"callbacks":{"on_failure_callback":[`+spec+`]}}`,
		workertest.Task{ID: "t", Class: "airflow.providers.standard.operators.bash.BashOperator", Kwargs: `{"bash_command":"exit 3"}`,
			Callbacks: map[string][]json.RawMessage{name: {json.RawMessage(spec)}}})
}

func tag(kind, body string) string { return `{"__type":"` + kind + `","__var":` + body + `}` }

// TestInTheWorker runs a failing task with its callback.
func TestInTheWorker(t *testing.T) {
	for spec, want := range map[string]string{
		tag("callable", `"cb.on_fail"`):                                                                             "CB t failed AirflowException Bash command failed. The command returned a non-zero exit code 3.",
		tag("callable", `{"file":"cb.py","name":"on_fail"}`):                                                        "CB t failed",
		tag("partial", `{"callable":"cb.on_ok","kwargs":{"channel":"c","level":2}}`):                                "CB c 2 2026-03-01 unset",
		tag("object", `{"class":"cb.MyNotifier","kwargs":{"message":"{{ ds }} failed","level":2}}`):                 "CB 2026-03-01 failed 2",
		`{"callback":"cb.on_ok","channel":"x"}`:                                                                     "CB x 1",
		`{"type":"command","command":"echo CB $GUST_STATE $AIRFLOW_CTX_TASK_ID {{ ds }} $GUST_IDEMPOTENCY_KEY"}`:    "CB failed t 2026-03-01 d/r/t/-1/1#on_failure_callback",
		tag("callable", `"cb.broken"`):                                                                              "RuntimeError: in the callback",
		tag("callable", `"cb.missing"`):                                                                             "does not exist",
		`{"type":"carrier pigeon"}`:                                                                                 "callback type 'carrier pigeon' is unknown",
		tag("object", `{"class":"airflow.providers.opsgenie.notifications.opsgenie.OpsgenieNotifier","kwargs":{}}`): "is not built in",
	} {
		f := setup(t, nil)
		r, log, err := workertest.Run{Backend: f.b, DAG: dagWith(t, "on_failure_callback", spec), Task: "t", Change: func(tc *worker.TaskContext) { tc.BundleDir = f.dir },
			Options: taskrunner.Options{Callbacks: f.r, Python: f.host}}.Do(t, operator.Default())
		if err != nil || r.Outcome != worker.OutcomeFailed || !r.CallbacksDone || !strings.Contains(log, want) {
			t.Errorf("%s: %v %v, want %q in\n%s", spec, err, r.Outcome, want, log)
		}
	}
}

func TestByTheControlPlane(t *testing.T) {
	f := setup(t, nil)
	run := workertest.Context(dagWith(t, "x", `"m.f"`), "t").Run
	dag := dagWith(t, "on_failure_callback", tag("callable", `"cb.dag_cb"`))
	for range 2 { // the second is the same event
		if err := f.r.RunDagCallback(context.Background(), dag, run, false, "timed_out", "k1"); err != nil {
			t.Fatal(err)
		}
	}
	if n := strings.Count(f.log.Text(), "CB r timed_out"); n != 1 {
		t.Errorf("%d runs:\n%s", n, f.log.Text())
	}
	if err := f.r.RunDagCallback(context.Background(), dag, run, true, "success", "k2"); err != nil {
		t.Errorf("a DAG without on_success_callback: %v", err)
	}
	lost := dagWith(t, "on_retry_callback", tag("callable", `"cb.on_fail"`))
	ti := airflow.TaskInstance{TaskInstanceKey: airflow.TaskInstanceKey{DagID: "d", RunID: "r", TaskID: "t", MapIndex: 3}, TryNumber: 2}
	if err := f.r.RunTaskCallback(context.Background(), lost, run, ti, true, "heartbeat timeout", "k3"); err != nil || !strings.Contains(f.log.Text(), "CB t up_for_retry AirflowException heartbeat timeout") {
		t.Errorf("%v\n%s", err, f.log.Text())
	}
	if n := len(f.indexes); n < 2 || f.indexes[0] != airflow.Unmapped || f.indexes[n-1] != 3 {
		t.Errorf("logs were opened for the map indexes %v", f.indexes)
	}
	sdk := func(class, path, kwargs string) string {
		return `{"interval":5,"callback":{"__classname__":"airflow.sdk.definitions.callback.` + class + `","__version__":0,"__data__":{"path":"` + path + `","kwargs":` + kwargs + `}}}`
	}
	deadline := workertest.DAG(t, `{"deadline":[`+strings.Join([]string{
		sdk("SyncCallback", "cb.late", `{"after":{"__classname__":"datetime.timedelta","__version__":2,"__data__":60.0}}`), sdk("AsyncCallback", "cb.alate", `{"channel":"slow"}`),
		sdk("AsyncCallback", "cb.MyNotifier", `{"message":"{{ dag_run.dag_id }} late since {{ deadline.deadline_time }}"}`),
		`{"interval":5,"callback":{"__type":"dict","__var":{"type":"command","command":"echo CB own {{ deadline.deadline_time }} $GUST_IDEMPOTENCY_KEY"}}}`, `{"interval":5}`,
	}, ",")+`]}`, "", workertest.Task{ID: "t", Class: "x.Y"})
	at := time.Date(2026, 3, 1, 6, 0, 0, 0, time.UTC)
	for i, want := range []string{
		"CB ['after', 'context'] r 2026-03-01T06:00:00+00:00 0:01:00", "CB slow without context", "CB d late since 2026-03-01T06:00:00+00:00 0", "CB own 2026-03-01T06:00:00+00:00 k4-3",
	} {
		if err := f.r.RunDeadline(context.Background(), deadline, run, i, at, fmt.Sprint("k4-", i)); err != nil || !strings.Contains(f.log.Text(), want) {
			t.Errorf("deadline %d: %v, want %q in\n%s", i, err, want, f.log.Text())
		}
	}
	if err := f.r.RunDeadline(context.Background(), deadline, run, 4, at, "k4-4"); err == nil {
		t.Error("an alert without a callback reports no error to its caller")
	}
	broken := dagWith(t, "on_failure_callback", tag("callable", `"cb.broken"`))
	if err := f.r.RunDagCallback(context.Background(), broken, run, false, "task_failure", "k5"); err == nil {
		t.Error("a broken callback reports no error to its caller")
	}
}

func TestWebhooks(t *testing.T) {
	var mu sync.Mutex
	var got []string
	srv := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		b, err := io.ReadAll(r.Body)
		if err != nil {
			t.Error(err)
		}
		mu.Lock()
		defer mu.Unlock()
		got = append(got, r.URL.Path+" "+r.Header.Get("Idempotency-Key")+" "+r.Header.Get("Authorization")+" "+string(b))
		switch r.URL.Path {
		case "/down":
			w.WriteHeader(500)
		case "/chat.postMessage":
			fmt.Fprint(w, `{"ok":true}`)
		}
	}))
	defer srv.Close()
	f := setup(t, nil)
	f.b.Connections["s"] = airflow.Connection{Host: srv.URL + "/services", Password: "T0/B0/x"}
	f.b.Connections["api"] = airflow.Connection{Password: "xoxb-1"}
	for i, c := range []struct{ spec, want string }{
		{`{"type":"webhook","url":"` + srv.URL + `/hook"}`, `/hook k0  {"event":"on_failure","dag_id":"d","dag_run_id":"r","state":"failed","reason":"task_failure","logical_date":"2026-03-01T20:05:00Z","text":"DAG d run r: failed (task_failure)"}`},
		{`{"type":"webhook","url":"` + srv.URL + `/own","json":{"a":"{{ reason }}","b":[1]}}`, `/own k1  {"a":"task_failure","b":[1]}`},
		{`{"type":"slack","url":"` + srv.URL + `/s","text":"run {{ run_id }}"}`, `/s k2  {"text":"run r"}`},
		{tag("object", `{"class":"airflow.providers.slack.notifications.slack_webhook.SlackWebhookNotifier","kwargs":{"slack_webhook_conn_id":"s","text":"hi"}}`), `/services/T0/B0/x k3  {"text":"hi"}`},
		{tag("object", `{"class":"airflow.providers.slack.notifications.slack.SlackNotifier","kwargs":{"slack_conn_id":"api","base_url":"`+srv.URL+`","text":"hi","channel":"#c"}}`), `/chat.postMessage k4 Bearer xoxb-1 {"channel":"#c","text":"hi"}`},
	} {
		dag := dagWith(t, "x", c.spec)
		run := workertest.Context(dag, "t").Run
		if err := f.r.RunDagCallback(context.Background(), dag, run, false, "task_failure", fmt.Sprintf("k%d", i)); err != nil {
			t.Errorf("%s: %v", c.spec, err)
		}
		if last := got[len(got)-1]; last != c.want {
			t.Errorf("%s\n got %s\nwant %s", c.spec, last, c.want)
		}
	}
	dag := dagWith(t, "x", `{"type":"webhook","url":"`+srv.URL+`/down"}`)
	if err := f.r.RunDagCallback(context.Background(), dag, workertest.Context(dag, "t").Run, false, "x", "kd"); err == nil || !strings.Contains(err.Error(), "500") {
		t.Errorf("%v", err)
	}
}

// smtpServer takes one message without TLS and returns the conversation.
func smtpServer(t *testing.T) (string, <-chan string) {
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { l.Close() })
	out := make(chan string, 1)
	go func() {
		c, err := l.Accept()
		if err != nil {
			return
		}
		defer c.Close()
		var all strings.Builder
		fmt.Fprint(c, "220 test\r\n")
		data := false
		s := bufio.NewScanner(c)
		for s.Scan() {
			line := s.Text()
			all.WriteString(line + "\n")
			switch {
			case data && line == ".":
				data = false
				fmt.Fprint(c, "250 ok\r\n")
			case data:
			case strings.HasPrefix(line, "EHLO"):
				fmt.Fprint(c, "250-test\r\n250 AUTH PLAIN\r\n")
			case line == "DATA":
				data = true
				fmt.Fprint(c, "354 go\r\n")
			case line == "QUIT":
				fmt.Fprint(c, "221 bye\r\n")
				out <- all.String()
				return
			case strings.HasPrefix(line, "AUTH"):
				fmt.Fprint(c, "235 ok\r\n")
			default:
				fmt.Fprint(c, "250 ok\r\n")
			}
		}
	}()
	return l.Addr().String(), out
}

// TestMailOfALostTask: the control plane tells of a task whose worker was lost, in
// words of the installation's own, once.
func TestMailOfALostTask(t *testing.T) {
	addr, talk := smtpServer(t)
	host, port, _ := strings.Cut(addr, ":")
	f := setup(t, func(o *callback.Options) {
		o.SMTP = callback.SMTPConfig{Host: host, From: "gust@example.org", Subject: "{{ dag_run.run_id }} {{ task.task_id }} failed", HTMLContent: "<b>{{ exception_html }}</b> on {{ ti.hostname }}, {{ ti.log_url }}, {{ max_tries + 1 }} tries"}
		fmt.Sscan(port, &o.SMTP.Port)
		o.LogURL = func(k airflow.TaskInstanceKey, try int) string { return fmt.Sprintf("log of %s %d", k.TaskID, try) }
	})
	dag := workertest.DAG(t, "", "", workertest.Task{ID: "t", Class: "airflow.providers.standard.operators.empty.EmptyOperator", Fields: `{"email":"a@example.org; b@example.org","email_on_retry":false}`})
	ti := airflow.TaskInstance{TaskInstanceKey: airflow.TaskInstanceKey{DagID: "d", RunID: "r", TaskID: "t", MapIndex: -1}, TryNumber: 1, MaxTries: 2, Hostname: "box"}
	run := workertest.Context(dag, "t").Run
	if err := f.r.RunTaskCallback(context.Background(), dag, run, ti, true, "x", "d/r/t/-1/4#on_retry_callback"); err != nil {
		t.Fatal(err)
	}
	for range 2 {
		if err := f.r.RunTaskCallback(context.Background(), dag, run, ti, false, "no <heartbeat>", "d/r/t/-1/5#on_failure_callback"); err != nil {
			t.Fatal(err)
		}
	}
	got := <-talk
	for _, want := range []string{"RCPT TO:<b@example.org>", "Subject: r t failed", "<b>no &lt;heartbeat&gt;</b> on box, log of t 1, 3 tries", "Message-ID: <d.r.t.-1.5.email_on_failure@gust>"} {
		if !strings.Contains(got, want) {
			t.Errorf("%q is missing in\n%s", want, got)
		}
	}
}

func TestEmail(t *testing.T) {
	addr, talk := smtpServer(t)
	host, port, _ := strings.Cut(addr, ":")
	f := setup(t, nil)
	var p int
	fmt.Sscan(port, &p)
	f.b.Connections["smtp_default"] = airflow.Connection{Host: host, Port: p, Login: "me", Password: "pw", Extra: `{"disable_tls":true,"disable_ssl":true,"from_email":"gust@example.org"}`}
	dag := dagWith(t, "x", tag("object", `{"class":"airflow.providers.smtp.notifications.smtp.SmtpNotifier","kwargs":{"to":["a@example.org","b@example.org"],"bcc":"c@example.org","subject":"ä {{ run_id }}\nBcc: evil@example.org","html_content":"<b>{{ ds }}</b>\n.\nend"}}`))
	if err := f.r.RunDagCallback(context.Background(), dag, workertest.Context(dag, "t").Run, false, "x", "key/1"); err != nil {
		t.Fatal(err)
	}
	got := <-talk
	for _, want := range []string{"MAIL FROM:<gust@example.org>", "RCPT TO:<b@example.org>", "RCPT TO:<c@example.org>", "To: a@example.org, b@example.org", "<b>2026-03-01</b>", "..\nend", "Message-ID: <key.1@gust>"} {
		if !strings.Contains(got, want) {
			t.Errorf("%q is missing in\n%s", want, got)
		}
	}
	if strings.Contains(got, "\nBcc:") {
		t.Errorf("a subject can add headers:\n%s", got)
	}
	// Without any connection, the server of the configuration is used; with it, the
	// sender of the configuration counts where the connection names none.
	for _, conns := range []map[string]airflow.Connection{{}, {"mail": {Host: host, Login: "me", Password: "pw", Extra: `{"disable_tls":true,"disable_ssl":true}`}}} {
		addr, talk := smtpServer(t)
		_, port, _ := strings.Cut(addr, ":")
		smtp := callback.SMTPConfig{Host: host, From: "config@example.org", ConnID: "mail", Tries: 2}
		if c, ok := conns["mail"]; ok {
			fmt.Sscan(port, &c.Port)
			conns["mail"], smtp.Host = c, "mail.invalid"
		}
		fmt.Sscan(port, &smtp.Port)
		f := setup(t, func(o *callback.Options) { o.SMTP = smtp })
		f.b.Connections = conns
		dag := dagWith(t, "x", `{"type":"email","to":"a@example.org"}`)
		if err := f.r.RunDagCallback(context.Background(), dag, workertest.Context(dag, "t").Run, false, "x", "key"); err != nil {
			t.Fatal(err)
		}
		if got := <-talk; !strings.Contains(got, "MAIL FROM:<config@example.org>") {
			t.Errorf("with connections %v: %s", conns, got)
		}
	}
	f.b.Connections["smtp_default"] = airflow.Connection{Host: host, Port: 1, Extra: `{"disable_ssl":true}`}
	if err := f.r.RunDagCallback(context.Background(), dag, workertest.Context(dag, "t").Run, false, "x", "key/2"); err == nil {
		t.Error("an unreachable server is no error")
	}
}

func TestTimeout(t *testing.T) {
	f := setup(t, func(o *callback.Options) { o.Timeout = 100 * time.Millisecond })
	dag := dagWith(t, "x", `{"type":"command","command":"sleep 60"}`)
	start := time.Now()
	err := f.r.RunDagCallback(context.Background(), dag, workertest.Context(dag, "t").Run, false, "x", "k")
	if err == nil || !strings.Contains(err.Error(), "longer than 100ms") || time.Since(start) > 10*time.Second || errors.Is(err, context.Canceled) {
		t.Errorf("%v after %v", err, time.Since(start))
	}
}
