package timetable

import (
	"bufio"
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"reflect"
	"regexp"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/gustflow/gust/internal/vectors"
)

// TestVectorsTimetables replays what Airflow answered, every file and every
// kind of case. A field the replay does not know fails the case.
func TestVectorsTimetables(t *testing.T) {
	dir := vectors.Dir(t, "timetables")
	files, err := filepath.Glob(filepath.Join(dir, "*"))
	if err != nil {
		t.Fatal(err)
	}
	total := 0
	for _, file := range files {
		if filepath.Ext(file) != ".jsonl" {
			if filepath.Base(file) != "README.md" {
				t.Logf("not covered: %s", file)
			}
			continue
		}
		t.Run(strings.TrimSuffix(filepath.Base(file), ".jsonl"), func(t *testing.T) {
			passed, excluded, failed := 0, 0, 0
			for _, line := range readLines(t, file) {
				why, err := replayLine(line)
				switch {
				case err != nil:
					failed++
					t.Errorf("%v", err)
				case why != "":
					excluded++
				default:
					passed++
				}
			}
			total += passed + failed
			t.Logf("%s: %d passed, %d excluded in part, %d failed", filepath.Base(file), passed, excluded, failed)
		})
	}
	if total == 0 {
		t.Fatalf("no cases in %s", dir)
	}
}

func readLines(t *testing.T, file string) [][]byte {
	f, err := os.Open(file)
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	var lines [][]byte
	sc := bufio.NewScanner(f)
	sc.Buffer(nil, 1<<24)
	for sc.Scan() {
		if len(bytes.TrimSpace(sc.Bytes())) > 0 {
			lines = append(lines, bytes.Clone(sc.Bytes()))
		}
	}
	if err := sc.Err(); err != nil {
		t.Fatal(err)
	}
	return lines
}

type vectorCase struct {
	ID              string            `json:"id"`
	Kind            string            `json:"kind"`
	Group           string            `json:"group"`
	Schedule        vectorSchedule    `json:"schedule"`
	DataIntervals   bool              `json:"create_cron_data_intervals"`
	DefaultTimezone string            `json:"default_timezone"`
	Dag             vectorDag         `json:"dag"`
	Resolved        *vectorResolved   `json:"resolved"`
	Error           *vectorError      `json:"error"`
	Steps           []json.RawMessage `json:"steps"`
	Now             time.Time         `json:"now"`
	Verdict         string            `json:"verdict"`
	Runs            []*vectorRun      `json:"runs"`
	FirstError      *vectorError      `json:"first_error"`
	Random          bool              `json:"random"`
	Request         *vectorBackfill   `json:"request"`
	Input           *vectorRunIDInput `json:"input"`
	Expect          json.RawMessage   `json:"expect"`
}

type vectorError struct {
	Stage   Stage  `json:"stage"`
	Class   string `json:"class"`
	Message string `json:"message"`
}

type vectorDate struct {
	Wall string          `json:"wall"`
	TZ   json.RawMessage `json:"tz"`
	Kind string          `json:"kind"`
}

type vectorDag struct {
	StartDate     *vectorDate `json:"start_date"`
	EndDate       *vectorDate `json:"end_date"`
	Catchup       bool        `json:"catchup"`
	MaxActiveRuns *int        `json:"max_active_runs"`
	DefaultArgs   struct {
		StartDate *vectorDate `json:"start_date"`
		EndDate   *vectorDate `json:"end_date"`
	} `json:"default_args"`
	Tasks []vectorTask `json:"tasks"`
}

type vectorTask struct {
	StartDate     *vectorDate `json:"start_date"`
	EndDate       *vectorDate `json:"end_date"`
	DependsOnPast bool        `json:"depends_on_past"`
}

type vectorSchedule struct {
	Type             string           `json:"type"`
	Value            string           `json:"value"`
	Seconds          float64          `json:"seconds"`
	Args             map[string]any   `json:"args"`
	Cron             string           `json:"cron"`
	Crons            []string         `json:"crons"`
	Delta            *vectorDelta     `json:"delta"`
	Interval         *vectorDelta     `json:"interval"`
	Timezone         json.RawMessage  `json:"timezone"`
	RunImmediately   json.RawMessage  `json:"run_immediately"`
	EventDates       []vectorDate     `json:"event_dates"`
	RestrictToEvents bool             `json:"restrict_to_events"`
	Presorted        bool             `json:"presorted"`
	Description      *string          `json:"description"`
	Assets           []map[string]any `json:"assets"`
	Timetable        *vectorSchedule  `json:"timetable"`
}

type vectorDelta struct {
	Seconds       float64        `json:"seconds"`
	Relativedelta map[string]any `json:"relativedelta"`
}

type vectorResolved struct {
	Class           string   `json:"class"`
	Summary         string   `json:"summary"`
	Description     string   `json:"description"`
	Periodic        bool     `json:"periodic"`
	CanBeScheduled  bool     `json:"can_be_scheduled"`
	ActiveRunsLimit *int     `json:"active_runs_limit"`
	RunOrdering     []string `json:"run_ordering"`
	DagTimezone     string   `json:"dag_timezone"`
	Restriction     struct {
		Earliest *time.Time `json:"earliest"`
		Latest   *time.Time `json:"latest"`
		Catchup  bool       `json:"catchup"`
	} `json:"restriction"`
	Expression *string `json:"expression"`
	Timezone   *string `json:"timezone"`
}

type vectorRun struct {
	LogicalDate time.Time `json:"logical_date"`
	Start       time.Time `json:"start"`
	End         time.Time `json:"end"`
	RunAfter    time.Time `json:"run_after"`
	RunID       string    `json:"run_id"`
}

// strict decodes and refuses fields it does not know.
func strict(data []byte, v any) error {
	d := json.NewDecoder(bytes.NewReader(data))
	d.DisallowUnknownFields()
	return d.Decode(v)
}

// replayLine returns why a part of the case was not compared, if so.
func replayLine(line []byte) (excluded string, err error) {
	var c vectorCase
	if err := strict(line, &c); err != nil {
		return "", fmt.Errorf("unknown shape of case: %w: %.200s", err, line)
	}
	r := &replay{vectorCase: c}
	if err := r.replay(); err != nil {
		return "", fmt.Errorf("%s: %w", c.ID, err)
	}
	return r.excluded, nil
}

type replay struct {
	vectorCase
	tt          Timetable
	restriction Restriction
	excluded    string
}

func (c *replay) replay() error {
	err := c.load()
	if c.dependsOnClock(err) {
		c.excluded = "whether a delta with replacing parts leads forward depends on the clock when Airflow was asked"
		return nil
	}
	if c.Error != nil && c.Error.Stage != StageBackfill {
		return compareError(err, c.Error)
	}
	if err != nil {
		return fmt.Errorf("refused, but Airflow accepts it: %w", err)
	}
	if c.Resolved != nil {
		if err := c.compareResolved(); err != nil {
			return err
		}
	}
	switch c.Kind {
	case "sequence":
		return c.sequence()
	case "manual":
		return c.manual()
	case "backfill":
		return c.backfill()
	case "verdict":
		return c.verdict()
	case "run_id":
		return c.runID()
	}
	return fmt.Errorf("unknown kind %q", c.Kind)
}

// dependsOnClock reports whether only one side refuses a calendar delta such as
// relativedelta(hour=3): that check looks at the real clock, which the vectors
// do not record.
func (c *replay) dependsOnClock(got error) bool {
	var e *Error
	refused := errors.As(got, &e) && strings.HasPrefix(e.Message, "schedule interval must be positive")
	wanted := c.Error != nil && strings.HasPrefix(c.Error.Message, "schedule interval must be positive")
	args := c.Schedule.Args
	if c.Schedule.Delta != nil {
		args = c.Schedule.Delta.Relativedelta
	}
	for _, part := range []string{"year", "month", "day", "hour", "minute", "second", "microsecond", "weekday", "yearday", "nlyearday"} {
		if _, given := args[part]; given {
			return refused != wanted
		}
	}
	return false
}

func compareError(got error, want *vectorError) error {
	var e *Error
	if !errors.As(got, &e) {
		return fmt.Errorf("got %v, want %+v", got, *want)
	}
	sameText := e.Message == want.Message
	switch e.Class {
	case "ZeroDivisionError", "OverflowError":
		sameText = true // the interpreter's words, which change with its version
	case "CroniterUnsupportedSyntaxError":
		// Ends in a Python set of numbers and strings: its order is random.
		sameText = strings.HasPrefix(want.Message, strings.SplitN(e.Message, " vs nth=", 2)[0])
	}
	if strings.Contains(e.Message, "Is a directory") { // goes on with a path of the machine
		sameText = strings.Contains(want.Message, "Is a directory")
	}
	if e.Stage != want.Stage || e.Class != want.Class || !sameText {
		return fmt.Errorf("got %+v, want %+v", *e, *want)
	}
	return nil
}

// load does what importing the DAG file does.
func (c *replay) load() error {
	zone := UTC
	var err error
	if c.DefaultTimezone != "" {
		if zone, err = LoadZone(c.DefaultTimezone); err != nil {
			return withStage(err, StageConstruct)
		}
	}
	defaultZone := zone
	dag := Dag{Catchup: c.Dag.Catchup, MaxActiveRuns: 16}
	if c.Dag.MaxActiveRuns != nil {
		dag.MaxActiveRuns = *c.Dag.MaxActiveRuns
	}
	resolve := func(dates ...*vectorDate) (*time.Time, Zone) {
		for _, d := range dates {
			if d == nil {
				continue
			}
			at, z, e := d.resolve(defaultZone)
			if e != nil && err == nil {
				err = e
			}
			return &at, z
		}
		return nil, defaultZone
	}
	dag.StartDate, zone = resolve(c.Dag.StartDate, c.Dag.DefaultArgs.StartDate)
	dag.EndDate, _ = resolve(c.Dag.EndDate) // that of default_args is for tasks only
	tasks := c.Dag.Tasks
	if tasks == nil {
		tasks = make([]vectorTask, 1)
	}
	for _, task := range tasks {
		var d TaskDates
		d.StartDate, _ = resolve(task.StartDate, c.Dag.DefaultArgs.StartDate)
		d.EndDate, _ = resolve(task.EndDate, c.Dag.DefaultArgs.EndDate)
		dag.Tasks = append(dag.Tasks, d)
	}
	if err != nil {
		return withStage(err, StageConstruct)
	}
	if c.Resolved != nil && zone.String() != c.Resolved.DagTimezone {
		return fmt.Errorf("DAG zone %s, want %s", zone, c.Resolved.DagTimezone)
	}
	schedule, err := c.Schedule.value(defaultZone)
	if err != nil {
		return err
	}
	// The check of deltas looks at the real clock, which the vectors do not
	// record; it matters only for calendar parts such as hour=3.
	loaded := time.Date(2026, 11, 21, 10, 0, 0, 0, time.UTC)
	conf := Config{DagID: "d", DagTimezone: zone, CreateCronDataIntervals: c.DataIntervals, Now: loaded}
	// The order of the stages: the DAG object's checks come before the
	// timetable's own.
	if raw, _, err := construct(schedule, conf); err != nil {
		return withStage(err, StageConstruct)
	} else if err := CheckSchedule(raw, dag); err != nil {
		return err
	}
	if c.tt, err = FromSchedule(schedule, conf); err != nil {
		return err
	}
	c.restriction = Restrict(dag)
	return c.checkRoundTrip()
}

// checkRoundTrip writes the timetable as JSON and reads it back.
func (c *replay) checkRoundTrip() error {
	data, err := json.Marshal(Serialize(c.tt))
	if err != nil {
		return err
	}
	back, err := Parse(data)
	if err != nil {
		return fmt.Errorf("round trip of %s: %w", data, err)
	}
	again, err := json.Marshal(Serialize(back))
	if err != nil {
		return err
	}
	if !bytes.Equal(data, again) {
		return fmt.Errorf("round trip: %s became %s", data, again)
	}
	c.tt = back
	return nil
}

func (d vectorDate) resolve(naive Zone) (time.Time, Zone, error) {
	wall, err := time.Parse("2006-01-02T15:04:05.999999", d.Wall)
	if err != nil {
		return time.Time{}, UTC, err
	}
	var name *string
	if d.Kind == "offset" {
		var offset int
		if err := json.Unmarshal(d.TZ, &offset); err != nil {
			return time.Time{}, UTC, err
		}
		z := FixedZone(offset)
		return z.At(wall, 0), z, nil
	}
	if err := json.Unmarshal(d.TZ, &name); err != nil {
		return time.Time{}, UTC, err
	}
	if name == nil {
		return naive.At(wall, 1), naive, nil
	}
	z, err := LoadZone(*name)
	if err != nil {
		return time.Time{}, UTC, err
	}
	return z.At(wall, 1), z, nil
}

func (d *vectorDelta) delta() (Delta, error) {
	switch {
	case d == nil:
		return Delta{}, nil
	case d.Relativedelta != nil:
		r, err := NewRelativeDelta(d.Relativedelta)
		return Delta{Relative: r}, err
	}
	return Seconds(d.Seconds), nil
}

func (s *vectorSchedule) value(naive Zone) (any, error) {
	switch s.Type {
	case "none":
		return nil, nil
	case "string":
		return s.Value, nil
	case "timedelta":
		return Seconds(s.Seconds), nil
	case "relativedelta":
		r, err := NewRelativeDelta(s.Args)
		return Delta{Relative: r}, err
	case "assets":
		return Assets{Condition: s.Assets}, nil
	}
	return s.object(naive)
}

func (s *vectorSchedule) object(naive Zone) (*Object, error) {
	o := &Object{
		Class: s.Type, Crons: s.Crons, RestrictToEvents: s.RestrictToEvents,
		Presorted: s.Presorted, Description: s.Description,
	}
	switch s.Type {
	case "EventsTimetable(core)":
		o.Class = "airflow.timetables.events.EventsTimetable"
	case "AssetOrTimeSchedule":
		inner, err := s.Timetable.object(naive)
		if err != nil {
			return nil, err
		}
		o.Timetable, o.Assets = inner, any(s.Assets)
	case "CronTriggerTimetable", "CronDataIntervalTimetable":
		o.Crons = []string{s.Cron}
	case "MultipleCronTriggerTimetable", "DeltaTriggerTimetable", "DeltaDataIntervalTimetable", "EventsTimetable":
	default:
		return nil, fmt.Errorf("unknown schedule type %q", s.Type)
	}
	var err error
	if o.Delta, err = s.Delta.delta(); err != nil {
		return nil, err
	}
	if o.Interval, err = s.Interval.delta(); err != nil {
		return nil, err
	}
	if s.Timezone != nil {
		if err := json.Unmarshal(s.Timezone, &o.Timezone.Name); err != nil {
			o.Timezone.Fixed = true
			if err := json.Unmarshal(s.Timezone, &o.Timezone.Offset); err != nil {
				return nil, err
			}
		}
	}
	var seconds vectorDelta
	switch text := string(s.RunImmediately); {
	case text == "", text == "false":
	case text == "true":
		o.RunImmediately.Kind = RunImmediatelyTrue
	case text == "null":
		o.RunImmediately.Kind = RunImmediatelyNone
	default:
		if err := strict(s.RunImmediately, &seconds); err != nil {
			return nil, err
		}
		o.RunImmediately = RunImmediately{Kind: RunImmediatelyWithin, Within: Seconds(seconds.Seconds).Micros}
	}
	for _, d := range s.EventDates {
		at, _, err := d.resolve(naive)
		if err != nil {
			return nil, err
		}
		o.EventDates = append(o.EventDates, at)
	}
	return o, nil
}

func (c *replay) compareResolved() error {
	want := c.Resolved
	got := vectorResolved{
		Class: c.tt.Class(), Summary: c.tt.Summary(), Description: c.tt.Description(),
		Periodic: c.tt.Periodic(), CanBeScheduled: c.tt.CanBeScheduled(),
		ActiveRunsLimit: c.tt.ActiveRunsLimit(), RunOrdering: c.tt.RunOrdering(), DagTimezone: want.DagTimezone,
	}
	got.Restriction.Earliest, got.Restriction.Latest = c.restriction.Earliest, c.restriction.Latest
	got.Restriction.Catchup = c.restriction.Catchup
	if timed, ok := c.tt.(interface {
		Expression() string
		Zone() Zone
	}); ok {
		expression, zone := timed.Expression(), timed.Zone().String()
		got.Expression, got.Timezone = &expression, &zone
	}
	utc := func(t **time.Time) {
		if *t != nil {
			u := (*t).UTC()
			*t = &u
		}
	}
	expected := *want
	utc(&expected.Restriction.Earliest)
	utc(&expected.Restriction.Latest)
	if !reflect.DeepEqual(got, expected) {
		a, _ := json.Marshal(got)
		b, _ := json.Marshal(expected)
		return fmt.Errorf("resolved\n got %s\nwant %s", a, b)
	}
	return nil
}

func describe(info *RunInfo, runType string, utc bool) string {
	if info == nil {
		return "none"
	}
	at := info.RunAfter
	if utc {
		at = at.UTC()
	}
	return fmt.Sprintf("%s [%s, %s] after %s %s", isoFormat(info.LogicalDate.UTC()),
		isoFormat(info.DataInterval.Start.UTC()), isoFormat(info.DataInterval.End.UTC()),
		isoFormat(info.RunAfter.UTC()), RunID(runType, at))
}

func (v *vectorRun) String() string {
	if v == nil {
		return "none"
	}
	return fmt.Sprintf("%s [%s, %s] after %s %s", isoFormat(v.LogicalDate.UTC()), isoFormat(v.Start.UTC()),
		isoFormat(v.End.UTC()), isoFormat(v.RunAfter.UTC()), v.RunID)
}

func (c *replay) sequence() error {
	var prev *DataInterval
	for i, raw := range c.Steps {
		var step struct {
			Now    time.Time       `json:"now"`
			Last   json.RawMessage `json:"last"`
			Expect *vectorRun      `json:"expect"`
			Error  *vectorError    `json:"error"`
		}
		if err := strict(raw, &step); err != nil {
			return err
		}
		var last *DataInterval
		switch text := string(step.Last); text {
		case "null":
		case `"prev"`:
			last = prev
		default:
			var given struct {
				Start    time.Time `json:"start"`
				End      time.Time `json:"end"`
				RunAfter time.Time `json:"run_after"`
			}
			if err := strict(step.Last, &given); err != nil {
				return err
			}
			last = &DataInterval{Start: given.Start, End: given.End}
		}
		info, err := c.tt.NextRunInfo(last, c.restriction, step.Now)
		if step.Error != nil {
			if err := compareError(err, step.Error); err != nil {
				return fmt.Errorf("step %d: %w", i, err)
			}
			continue
		}
		if err != nil {
			return fmt.Errorf("step %d: %w", i, err)
		}
		if got, want := describe(info, "scheduled", true), step.Expect.String(); got != want {
			return fmt.Errorf("step %d (now %s, last %s)\n got %s\nwant %s", i, isoFormat(step.Now), step.Last, got, want)
		}
		if info != nil {
			prev = info.DataInterval
		}
	}
	return nil
}

func (c *replay) verdict() error {
	if c.Verdict != "accepted" {
		return fmt.Errorf("verdict %q without an error", c.Verdict)
	}
	if c.Random {
		c.excluded = "croniter drew random fields: the times differ at each call"
		return nil
	}
	var last *DataInterval
	for i := 0; ; i++ {
		if i == len(c.Runs) && (c.FirstError == nil || i > 0) {
			return nil
		}
		info, err := c.tt.NextRunInfo(last, c.restriction, c.Now)
		if i == 0 && c.FirstError != nil {
			return compareError(err, c.FirstError)
		}
		if err != nil {
			return fmt.Errorf("run %d: %w", i, err)
		}
		if got, want := describe(info, "scheduled", true), c.Runs[i].String(); got != want {
			return fmt.Errorf("run %d\n got %s\nwant %s", i, got, want)
		}
		if info != nil {
			last = info.DataInterval
		}
	}
}

type vectorBackfill struct {
	Now               time.Time            `json:"now"`
	From              time.Time            `json:"from_date"`
	To                time.Time            `json:"to_date"`
	Reverse           bool                 `json:"reverse"`
	ReprocessBehavior ReprocessBehavior    `json:"reprocess_behavior"`
	ExistingRuns      map[time.Time]string `json:"existing_runs"`
}

func (c *replay) backfill() error {
	r := c.Request
	request := BackfillRequest{
		DagID: "d", From: r.From, To: r.To, Reverse: r.Reverse, ReprocessBehavior: r.ReprocessBehavior, Now: r.Now,
		ExistingRun: func(at time.Time) (string, bool) {
			for date, state := range r.ExistingRuns {
				if date.Equal(at) {
					return state, true
				}
			}
			return "", false
		},
	}
	for _, task := range c.Dag.Tasks {
		request.DependsOnPast = request.DependsOnPast || task.DependsOnPast
	}
	infos, err := BackfillRuns(c.tt, request)
	if c.Error != nil {
		return compareError(err, c.Error)
	}
	if err != nil {
		return err
	}
	var want []*vectorRun
	if err := strict(c.Expect, &want); err != nil {
		return err
	}
	var got, expected []string
	for _, info := range infos {
		got = append(got, describe(&info, "backfill", false))
	}
	for _, w := range want {
		expected = append(expected, w.String())
	}
	if !slices.Equal(got, expected) {
		return fmt.Errorf("\n got %s\nwant %s", strings.Join(got, "\n     "), strings.Join(expected, "\n     "))
	}
	return nil
}

func (c *replay) manual() error {
	for i, raw := range c.Steps {
		var step struct {
			Now      time.Time  `json:"now"`
			Op       string     `json:"op"`
			RunAfter *time.Time `json:"run_after"`
			Body     *struct {
				LogicalDate       *time.Time `json:"logical_date"`
				RunAfter          *time.Time `json:"run_after"`
				DataIntervalStart *time.Time `json:"data_interval_start"`
				DataIntervalEnd   *time.Time `json:"data_interval_end"`
				DagRunID          *string    `json:"dag_run_id"`
			} `json:"body"`
			Args *struct {
				LogicalDate         *time.Time `json:"logical_date"`
				RunAfter            *time.Time `json:"run_after"`
				ReplaceMicroseconds bool       `json:"replace_microseconds"`
			} `json:"args"`
			Expect json.RawMessage `json:"expect"`
		}
		if err := strict(raw, &step); err != nil {
			return err
		}
		var got any
		var err error
		switch step.Op {
		case "infer_manual_data_interval":
			got, err = c.tt.InferManualDataInterval(*step.RunAfter)
		case "api_trigger":
			b := step.Body
			got, err = APITrigger(c.tt, TriggerRequest{
				RunID: b.DagRunID, LogicalDate: b.LogicalDate, RunAfter: b.RunAfter,
				DataIntervalStart: b.DataIntervalStart, DataIntervalEnd: b.DataIntervalEnd,
			}, step.Now)
		case "trigger_dag_function":
			a := step.Args
			got, err = TriggerDag(c.tt, nil, a.RunAfter, a.LogicalDate, a.ReplaceMicroseconds, step.Now)
		default:
			return fmt.Errorf("unknown operation %q", step.Op)
		}
		if err != nil {
			return fmt.Errorf("step %d: %w", i, err)
		}
		a, err := canonicalTimes(got)
		if err != nil {
			return err
		}
		b, err := canonicalTimes(step.Expect)
		if err != nil {
			return err
		}
		if !reflect.DeepEqual(a, b) {
			return fmt.Errorf("step %d %s\n got %v\nwant %v", i, step.Op, a, b)
		}
	}
	return nil
}

// canonicalTimes turns v into plain JSON values with every time in UTC.
func canonicalTimes(v any) (any, error) {
	data, err := json.Marshal(v)
	if err != nil {
		return nil, err
	}
	var plain any
	if err := json.Unmarshal(data, &plain); err != nil {
		return nil, err
	}
	var walk func(any) any
	walk = func(v any) any {
		switch v := v.(type) {
		case map[string]any:
			for k := range v {
				v[k] = walk(v[k])
			}
		case string:
			if at, err := time.Parse(time.RFC3339Nano, v); err == nil {
				return at.UTC().Format(time.RFC3339Nano)
			}
		}
		return v
	}
	return walk(plain), nil
}

type vectorRunIDInput struct {
	RunType      string        `json:"run_type"`
	RunAfter     time.Time     `json:"run_after"`
	LogicalDate  *time.Time    `json:"logical_date"`
	DataInterval *DataInterval `json:"data_interval"`
}

func (c *replay) runID() error {
	var want struct {
		Timetable string            `json:"timetable_generate_run_id"`
		DagRun    string            `json:"dagrun_generate_run_id"`
		Pattern   string            `json:"dagrun_generate_run_id_regex"`
		From      map[string]string `json:"from_run_id"`
	}
	if err := strict(c.Expect, &want); err != nil {
		return err
	}
	in := c.Input
	if got := RunID(in.RunType, in.RunAfter); got != want.Timetable {
		return fmt.Errorf("RunID: got %s, want %s", got, want.Timetable)
	}
	got := DagRunID(in.RunType, in.LogicalDate, in.RunAfter, "aZ09bY18")
	if want.Pattern != "" {
		if !regexp.MustCompile(want.Pattern).MatchString(got) {
			return fmt.Errorf("DagRunID: got %s, want %s", got, want.Pattern)
		}
	} else if got != want.DagRun {
		return fmt.Errorf("DagRunID: got %s, want %s", got, want.DagRun)
	}
	for id, runType := range want.From {
		if got := RunTypeOf(id); got != runType {
			return fmt.Errorf("RunTypeOf(%q): got %s, want %s", id, got, runType)
		}
	}
	return nil
}
