package observe

import (
	"bytes"
	"compress/gzip"
	"context"
	"crypto/sha1"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"log/slog"
	"net/http"
	"net/url"
	"os"
	"path/filepath"
	"strings"
	"time"

	"github.com/gustflow/gust/internal/airflow"
	"github.com/gustflow/gust/internal/engine"
)

// Lineage says where OpenLineage events go: to URL or, without one, to File.
type Lineage struct {
	// Namespace is that of all jobs. Default "default".
	Namespace string
	// URL is the whole address, as http://marquez:5000/api/v1/lineage.
	URL      string
	Headers  map[string]string
	Compress bool
	Timeout  time.Duration // of a request; default 5 s
	// Tries is how often an event is sent at most. Default 4.
	Tries int
	// File takes events as lines with Append; otherwise each event is a file of its own,
	// named after File and the time.
	File   string
	Append bool
	// DisabledFor are the class paths or names of operators without events.
	DisabledFor []string
	// Client replaces the HTTP client; for tests.
	Client  *http.Client
	Version string
}

// lineage sends run events as the OpenLineage provider of Airflow does: one job per
// DAG and per task, one run per DAG run and per try.
type lineage struct {
	o      Lineage
	log    *slog.Logger
	failed bool
	pause  func(time.Duration)
	last   string // name of the last file
}

func newLineage(o Lineage, log *slog.Logger) *lineage {
	if o.Namespace == "" {
		o.Namespace = "default"
	}
	if o.Timeout <= 0 {
		o.Timeout = 5 * time.Second
	}
	if o.Tries <= 0 {
		o.Tries = 4
	}
	if o.Client == nil {
		o.Client = &http.Client{Timeout: o.Timeout}
	}
	return &lineage{o: o, log: log, pause: time.Sleep}
}

func (l *lineage) name() string          { return "openlineage" }
func (l *lineage) samples([]Sample)      {}
func (l *lineage) flush(context.Context) {}
func (l *lineage) idle(context.Context)  {}
func (l *lineage) close()                {}

// The event, by the OpenLineage specification 2-0-2.
type runEvent struct {
	EventType string      `json:"eventType"`
	EventTime string      `json:"eventTime"`
	Run       lineageRun  `json:"run"`
	Job       lineageJob  `json:"job"`
	Inputs    []datasetID `json:"inputs"`
	Outputs   []datasetID `json:"outputs"`
	Producer  string      `json:"producer"`
	SchemaURL string      `json:"schemaURL"`
}

type lineageRun struct {
	RunID  string         `json:"runId"`
	Facets map[string]any `json:"facets,omitempty"`
}

type lineageJob struct {
	Namespace string         `json:"namespace"`
	Name      string         `json:"name"`
	Facets    map[string]any `json:"facets,omitempty"`
}

type datasetID struct {
	Namespace string `json:"namespace"`
	Name      string `json:"name"`
}

const (
	lineageSpec = "https://openlineage.io/spec/2-0-2/OpenLineage.json#/$defs/RunEvent"
	facetSpec   = "https://openlineage.io/spec/facets/"
)

func (l *lineage) producer() string { return "https://github.com/gustflow/gust/tree/" + l.o.Version }

// facet adds what every facet has.
func (l *lineage) facet(spec string, fields map[string]any) map[string]any {
	fields["_producer"], fields["_schemaURL"] = l.producer(), facetSpec+spec
	return fields
}

// RunID is the id of a run at a time, from what identifies it: a UUID of version 7
// with a hash where it would be random, as OpenLineage's client makes them.
func RunID(at time.Time, data string) string {
	at = at.UTC()
	// The client reckons in floating point.
	ms := uint64(int64(float64(at.UnixMicro()) / 1e6 * 1000))
	iso := at.Format("2006-01-02T15:04:05")
	if us := at.Nanosecond() / 1000; us != 0 {
		iso += fmt.Sprintf(".%06d", us)
	}
	sum := sha1.Sum([]byte(iso + "+00:00" + data))
	var id [16]byte
	for i := range 6 {
		id[i] = byte(ms >> (40 - 8*i))
	}
	// 76 bits of the hash, aligned to the right.
	for i := range 10 {
		id[15-i] = sum[9-i] >> 4
		if i < 9 {
			id[15-i] |= sum[8-i] << 4
		}
	}
	id[6] = id[6]&0x0f | 0x70
	id[8] = id[8]&0x3f | 0x80
	h := hex.EncodeToString(id[:])
	return h[:8] + "-" + h[8:12] + "-" + h[12:16] + "-" + h[16:20] + "-" + h[20:]
}

// lineageDate is what run ids are made with.
func lineageDate(r airflow.DagRun) time.Time {
	if r.LogicalDate != nil {
		return *r.LogicalDate
	}
	return r.RunAfter
}

func (l *lineage) dagRunID(r airflow.DagRun) string {
	return RunID(lineageDate(r), fmt.Sprintf("%s.%s.%d", l.o.Namespace, r.DagID, r.ClearNumber))
}

func (l *lineage) taskRunID(r airflow.DagRun, t engine.TaskChange) string {
	return RunID(lineageDate(r), fmt.Sprintf("%s.%s.%s.%d.%d", l.o.Namespace, t.DagID, t.TaskID, t.TryNumber, t.MapIndex))
}

func (l *lineage) change(c engine.Change) {
	r := c.Run
	if c.From != r.State && r.State == airflow.RunRunning {
		l.emit(l.dagEvent(c, "START", timeOf(r.StartDate, c.At)))
	}
	for _, t := range c.Tasks {
		switch {
		case l.disabled(c.DAG, t):
		case t.To == airflow.TIRunning && !t.Resumed:
			l.emit(l.taskEvent(c, t, "START", timeOf(&t.StartDate, c.At)))
		case t.From != airflow.TIRunning:
		case t.To == airflow.TISuccess || t.To == airflow.TISkipped:
			l.emit(l.taskEvent(c, t, "COMPLETE", timeOf(&t.EndDate, c.At)))
		case t.To == airflow.TIFailed || t.To == airflow.TIUpForRetry:
			l.emit(l.taskEvent(c, t, "FAIL", timeOf(&t.EndDate, c.At)))
		}
	}
	if c.From == r.State || !r.State.Finished() {
		return
	}
	if r.State == airflow.RunSuccess {
		l.emit(l.dagEvent(c, "COMPLETE", timeOf(r.EndDate, c.At)))
		return
	}
	l.emit(l.dagEvent(c, "FAIL", timeOf(r.EndDate, c.At)))
}

func timeOf(t *time.Time, otherwise time.Time) time.Time {
	if t == nil || t.IsZero() {
		return otherwise
	}
	return *t
}

func (l *lineage) disabled(dag *airflow.DAG, t engine.TaskChange) bool {
	if len(l.o.DisabledFor) == 0 || dag == nil {
		return false
	}
	task := dag.Task(t.TaskID)
	for _, d := range l.o.DisabledFor {
		if task != nil && (d == task.ClassPath() || d == task.TaskType) {
			return true
		}
	}
	return false
}

func iso(t time.Time) string { return t.UTC().Format("2006-01-02T15:04:05.000000Z07:00") }

func (l *lineage) event(kind string, at time.Time, c engine.Change) runEvent {
	e := runEvent{
		EventType: kind, EventTime: iso(at), Inputs: []datasetID{}, Outputs: []datasetID{}, Producer: l.producer(), SchemaURL: lineageSpec,
		Run: lineageRun{Facets: map[string]any{
			"processing_engine": l.facet("1-1-1/ProcessingEngineRunFacet.json#/$defs/ProcessingEngineRunFacet",
				map[string]any{"version": l.o.Version, "name": "Gust", "openlineageAdapterVersion": l.o.Version}),
		}},
		Job: lineageJob{Namespace: l.o.Namespace, Facets: map[string]any{}},
	}
	if c.Run.DataIntervalStart != nil {
		nominal := map[string]any{"nominalStartTime": iso(*c.Run.DataIntervalStart)}
		if c.Run.DataIntervalEnd != nil {
			nominal["nominalEndTime"] = iso(*c.Run.DataIntervalEnd)
		}
		e.Run.Facets["nominalTime"] = l.facet("1-0-1/NominalTimeRunFacet.json#/$defs/NominalTimeRunFacet", nominal)
	}
	return e
}

func (l *lineage) jobType(what string) map[string]any {
	return l.facet("2-0-4/JobTypeJobFacet.json#/$defs/JobTypeJobFacet", map[string]any{"processingType": "BATCH", "integration": "AIRFLOW", "jobType": what})
}

func (l *lineage) dagEvent(c engine.Change, kind string, at time.Time) runEvent {
	e := l.event(kind, at, c)
	e.Run.RunID, e.Job.Name = l.dagRunID(c.Run), string(c.Run.DagID)
	e.Job.Facets["jobType"] = l.jobType("DAG")
	if kind == "FAIL" {
		e.Run.Facets["errorMessage"] = l.failure(c.Reason)
	}
	return e
}

func (l *lineage) failure(message string) map[string]any {
	if message == "" {
		message = "failed"
	}
	return l.facet("1-0-1/ErrorMessageRunFacet.json#/$defs/ErrorMessageRunFacet", map[string]any{"message": message, "programmingLanguage": "python"})
}

func (l *lineage) taskEvent(c engine.Change, t engine.TaskChange, kind string, at time.Time) runEvent {
	e := l.event(kind, at, c)
	e.Run.RunID, e.Job.Name = l.taskRunID(c.Run, t), string(t.DagID)+"."+string(t.TaskID)
	e.Job.Facets["jobType"] = l.jobType("TASK")
	parent := map[string]any{"run": map[string]any{"runId": l.dagRunID(c.Run)}, "job": map[string]any{"namespace": l.o.Namespace, "name": string(t.DagID)}}
	parent["root"] = map[string]any{"run": parent["run"], "job": parent["job"]}
	e.Run.Facets["parent"] = l.facet("1-2-0/ParentRunFacet.json#/$defs/ParentRunFacet", parent)
	if kind == "FAIL" {
		e.Run.Facets["errorMessage"] = l.failure(t.Error)
	}
	if c.DAG == nil {
		return e
	}
	if task := c.DAG.Task(t.TaskID); task != nil {
		e.Inputs, e.Outputs = datasets(task.Inlets), datasets(task.Outlets)
	}
	return e
}

// datasets translates assets whose systems OpenLineage has a naming for, as the
// converters of Airflow's providers do. Others have no name that means something there.
func datasets(assets []airflow.AssetRef) []datasetID {
	out := []datasetID{}
	for _, a := range assets {
		u, err := url.Parse(a.URI)
		if err != nil || a.URI == "" || u.User != nil {
			continue
		}
		path := strings.TrimPrefix(u.Path, "/")
		switch u.Scheme {
		case "s3", "gs":
			if path == "" {
				path = "/"
			}
			out = append(out, datasetID{u.Scheme + "://" + u.Host, path})
		case "file":
			ns := "file"
			if u.Host != "" {
				ns += "://" + u.Host
			}
			out = append(out, datasetID{ns, u.Path})
		}
	}
	return out
}

// emit sends one event. Order is kept: a collector that is away holds the queue up
// for the tries of an event, then the event is lost.
func (l *lineage) emit(e runEvent) {
	b, err := json.Marshal(e)
	if err == nil {
		if l.o.URL != "" {
			err = l.post(b)
		} else {
			err = l.write(b)
		}
	}
	if err == nil {
		l.failed = false
		return
	}
	if !l.failed {
		l.failed = true
		l.log.Warn("OpenLineage events are lost", "event_type", e.EventType, "job", e.Job.Name, "err", err)
	}
}

func (l *lineage) post(b []byte) error {
	var err error
	for try := range l.o.Tries {
		if try > 0 {
			if l.failed {
				break // it was away for the last event: one look is enough
			}
			l.pause(300 * time.Millisecond << (try - 1))
		}
		if err = l.postOnce(b); err == nil {
			return nil
		}
		var refused errRefused
		if errors.As(err, &refused) {
			break
		}
	}
	return err
}

func (l *lineage) postOnce(b []byte) error {
	body := bytes.NewReader(b)
	encoding := ""
	if l.o.Compress {
		var buf bytes.Buffer
		z := gzip.NewWriter(&buf)
		if _, err := z.Write(b); err != nil {
			return err
		}
		if err := z.Close(); err != nil {
			return err
		}
		body, encoding = bytes.NewReader(buf.Bytes()), "gzip"
	}
	req, err := http.NewRequest(http.MethodPost, l.o.URL, body)
	if err != nil {
		return errRefused{"an address that is no URL"}
	}
	req.Header.Set("Content-Type", "application/json")
	if encoding != "" {
		req.Header.Set("Content-Encoding", encoding)
	}
	for k, v := range l.o.Headers {
		req.Header.Set(k, v)
	}
	return do(l.o.Client, req)
}

func (l *lineage) write(b []byte) error {
	name, flags := l.o.File, os.O_CREATE|os.O_WRONLY|os.O_APPEND
	if !l.o.Append {
		flags = os.O_CREATE | os.O_WRONLY | os.O_EXCL
		name = fmt.Sprintf("%s-%s.json", l.o.File, time.Now().Format("20060102-150405.000000"))
		for name <= l.last { // two events in a microsecond
			name = fmt.Sprintf("%s-%s.json", l.o.File, time.Now().Format("20060102-150405.000000"))
		}
		l.last = name
	}
	if err := os.MkdirAll(filepath.Dir(name), 0o755); err != nil {
		return err
	}
	f, err := os.OpenFile(name, flags, 0o644)
	if err != nil {
		return err
	}
	_, err = f.Write(append(b, '\n'))
	return errors.Join(err, f.Close())
}
