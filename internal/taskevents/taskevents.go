// Package taskevents turns what went wrong outside of Gust into messages of the
// scheduler, so that a dispatch is failed or retried with the cause and never waits
// for a timeout: messages that nobody could handle (dead-letter queues), asynchronous
// invocations of a worker that failed, and ECS tasks that stopped.
//
// What arrives is told apart by its form, not by its way. Everything here may happen
// twice: the scheduler ends a dispatch only if it is still the current one, and one
// whose report is stored is reported, not lost.
package taskevents

import (
	"encoding/json"
	"fmt"
	"strings"
	"time"

	"github.com/gustflow/gust/internal/awsenv"
	"github.com/gustflow/gust/internal/dagbucket"
	"github.com/gustflow/gust/internal/engine"
	"github.com/gustflow/gust/internal/worker"
)

// Finding is what is to be done about one event.
type Finding struct {
	// Tell is for the scheduler; nil = nothing.
	Tell *engine.Message
	// Again is a body to send again, to the events queue, after Delay.
	Again string
	Delay time.Duration
	// What says for the log what happened; Alarm, that a person should look.
	What  string
	Alarm bool
}

// MaxResends is how often a message of the scheduler that died is sent again. After
// that the minute tick and the sweep do what it asked for.
const MaxResends = 3

// resendDelays leave time for what made a message fail to pass.
var resendDelays = [MaxResends]time.Duration{10 * time.Second, 2 * time.Minute, 15 * time.Minute}

// fieldResent counts, in the body of a scheduler message, how often it was sent again.
const fieldResent = "resent"

// Read says what is to be done about the body of a dead message, the record of a
// failed invocation, or an event of ECS. An error means that it is none of these.
func Read(body []byte) (Finding, error) {
	var any map[string]json.RawMessage
	if err := json.Unmarshal(body, &any); err != nil {
		return Finding{}, fmt.Errorf("expected a JSON object, found %.200q", body)
	}
	has := func(keys ...string) bool {
		for _, k := range keys {
			if _, ok := any[k]; !ok {
				return false
			}
		}
		return true
	}
	switch {
	case has("requestContext", "requestPayload"):
		return failedInvocation(body)
	case has("detail-type", "detail"):
		return ecsEvent(body)
	case has("key", "dispatch_seq"):
		d, err := dispatch(body)
		if err != nil {
			return Finding{}, err
		}
		return lost(d, "its message could not be delivered: the worker failed or was throttled every time it was tried, until the queue gave up (maxReceiveCount)"), nil
	case has("callback"):
		return Finding{Alarm: true, What: "a callback could not be run by any worker: it is tried again when its run is looked at next"}, nil
	case has("k"):
		return deadMessage(body, any)
	case has("Records") || has("gust") || has("Event"):
		return deadDagEvent(body)
	}
	return Finding{}, fmt.Errorf("neither a dispatch, a scheduler message, a failed invocation nor an event of ECS: %.200q", body)
}

func lost(d worker.Dispatch, cause string) Finding {
	return Finding{
		What: fmt.Sprintf("dispatch %s is lost: %s", d, cause),
		Tell: &engine.Message{Kind: engine.MessageLost, DagID: d.Key.DagID, RunID: d.Key.RunID, TaskID: d.Key.TaskID, MapIndex: d.Key.MapIndex, DispatchSeq: d.DispatchSeq, Cause: clip(cause)},
	}
}

func dispatch(body []byte) (worker.Dispatch, error) {
	var d worker.Dispatch
	if err := json.Unmarshal(body, &d); err != nil {
		return d, fmt.Errorf("task message: %w", err)
	}
	if d.Key.DagID == "" || d.Key.RunID == "" || d.Key.TaskID == "" || d.DispatchSeq == 0 {
		return d, fmt.Errorf("task message %.200q names no dispatch", body)
	}
	return d, nil
}

// deadMessage sends a message of the scheduler again, a few times.
func deadMessage(body []byte, fields map[string]json.RawMessage) (Finding, error) {
	var m engine.Message
	if err := json.Unmarshal(body, &m); err != nil {
		return Finding{}, fmt.Errorf("scheduler message: %w", err)
	}
	if err := m.Check(); err != nil {
		return Finding{}, err
	}
	sent := 0
	if raw, ok := fields[fieldResent]; ok {
		if err := json.Unmarshal(raw, &sent); err != nil {
			sent = MaxResends
		}
	}
	what := fmt.Sprintf("a %q message of DAG %s, run %s could not be handled", m.Kind, m.DagID, m.RunID)
	if sent >= MaxResends || sent < 0 {
		return Finding{Alarm: true, What: fmt.Sprintf("%s, also after it was sent again %d times; the next tick or sweep of the run does what it asked for", what, sent)}, nil
	}
	fields[fieldResent] = json.RawMessage(fmt.Sprint(sent + 1))
	again, err := json.Marshal(fields)
	if err != nil {
		return Finding{}, err
	}
	return Finding{Alarm: true, What: what + ": it is sent again", Again: string(again), Delay: resendDelays[sent]}, nil
}

// deadDagEvent makes the DAG files be looked at once more: the listing tells whatever
// the event would have.
func deadDagEvent(body []byte) (Finding, error) {
	var m struct {
		Gust string `json:"gust"`
	}
	_ = json.Unmarshal(body, &m) // it is an object: Read saw to that
	if m.Gust == "" {
		events, err := dagbucket.ParseEvents(body)
		if err != nil || len(events) == 0 {
			return Finding{}, err
		}
	}
	return Finding{Alarm: true, What: "a change of DAG files could not be registered: the periodic look at the bucket tries again; see the log of the dagprocessor"}, nil
}

// failedInvocation reads the record that Lambda sends when an asynchronous
// invocation was given up.
func failedInvocation(body []byte) (Finding, error) {
	var r struct {
		RequestContext struct {
			FunctionARN string `json:"functionArn"`
			Condition   string `json:"condition"`
			Count       int    `json:"approximateInvokeCount"`
		} `json:"requestContext"`
		RequestPayload  json.RawMessage `json:"requestPayload"`
		ResponseContext struct {
			FunctionError string `json:"functionError"`
		} `json:"responseContext"`
		ResponsePayload struct {
			Type    string `json:"errorType"`
			Message string `json:"errorMessage"`
		} `json:"responsePayload"`
	}
	if err := json.Unmarshal(body, &r); err != nil {
		return Finding{}, fmt.Errorf("record of a failed invocation: %w", err)
	}
	name := r.RequestContext.FunctionARN
	if i := strings.LastIndex(name, "function:"); i >= 0 {
		name = name[i+len("function:"):]
	}
	var why []string
	for _, s := range []string{r.RequestContext.Condition, r.ResponsePayload.Type, r.ResponsePayload.Message} {
		if s != "" {
			why = append(why, s)
		}
	}
	if len(why) == 0 && r.ResponseContext.FunctionError != "" {
		why = append(why, r.ResponseContext.FunctionError)
	}
	cause := fmt.Sprintf("the invocation of %s failed: %s", name, strings.Join(why, ": "))
	var ds []worker.Dispatch
	if d, err := dispatch(r.RequestPayload); err == nil {
		ds = append(ds, d)
	} else {
		// A worker that is invoked directly gets what a queue would send.
		var batch struct {
			Records []struct {
				Body string `json:"body"`
			} `json:"Records"`
		}
		if json.Unmarshal(r.RequestPayload, &batch) == nil {
			for _, m := range batch.Records {
				if d, err := dispatch([]byte(m.Body)); err == nil {
					ds = append(ds, d)
				}
			}
		}
	}
	if len(ds) != 1 {
		return Finding{Alarm: true, What: cause + fmt.Sprintf(" (payload %.200q)", r.RequestPayload)}, nil
	}
	return lost(ds[0], cause), nil
}

type ecsTask struct {
	DetailType string `json:"detail-type"`
	Source     string `json:"source"`
	Detail     struct {
		TaskARN       string `json:"taskArn"`
		LastStatus    string `json:"lastStatus"`
		StopCode      string `json:"stopCode"`
		StoppedReason string `json:"stoppedReason"`
		Containers    []struct {
			Name     string `json:"name"`
			ExitCode *int   `json:"exitCode"`
			Reason   string `json:"reason"`
		} `json:"containers"`
		Overrides struct {
			ContainerOverrides []struct {
				Name        string `json:"name"`
				Environment []struct {
					Name  string `json:"name"`
					Value string `json:"value"`
				} `json:"environment"`
			} `json:"containerOverrides"`
		} `json:"overrides"`
	} `json:"detail"`
}

// ecsEvent reads an "ECS Task State Change".
func ecsEvent(body []byte) (Finding, error) {
	var ev ecsTask
	if err := json.Unmarshal(body, &ev); err != nil {
		return Finding{}, fmt.Errorf("event: %w", err)
	}
	if ev.DetailType != "ECS Task State Change" || ev.Source != "aws.ecs" {
		return Finding{}, fmt.Errorf("an event of %s, %s: expected ECS Task State Change", ev.Source, ev.DetailType)
	}
	t := ev.Detail
	if t.LastStatus != "STOPPED" {
		return Finding{}, nil
	}
	var d worker.Dispatch
	container := ""
	for _, o := range t.Overrides.ContainerOverrides {
		for _, e := range o.Environment {
			if e.Name == awsenv.ECSDispatch {
				var err error
				if d, err = dispatch([]byte(e.Value)); err != nil {
					return Finding{}, fmt.Errorf("ECS task %s: %w", t.TaskARN, err)
				}
				container = o.Name
			}
		}
	}
	if container == "" {
		return Finding{}, nil // a worker service's task, or none of ours
	}
	var exits []string
	clean := t.StopCode == "" || t.StopCode == "EssentialContainerExited"
	for _, c := range t.Containers {
		text := ""
		if c.ExitCode != nil {
			text = fmt.Sprintf("exit code %d", *c.ExitCode)
		}
		if c.Reason != "" {
			text = strings.TrimPrefix(text+", "+c.Reason, ", ")
		}
		if c.Name == container {
			clean = clean && c.ExitCode != nil && *c.ExitCode == 0
		}
		if text != "" {
			exits = append(exits, fmt.Sprintf("container %s: %s", c.Name, text))
		}
	}
	if clean && len(t.Containers) > 0 {
		// It reported before it ended; this only makes sure that somebody heard.
		m := engine.ReportOf(d)
		return Finding{Tell: &m}, nil
	}
	cause := strings.TrimSuffix("the ECS task stopped: "+strings.TrimPrefix(t.StopCode+": "+t.StoppedReason, ": "), ": ")
	if len(exits) > 0 {
		cause += " (" + strings.Join(exits, "; ") + ")"
	}
	return lost(d, cause), nil
}

// clip keeps a cause within a message.
func clip(s string) string {
	const most = 2000
	if len(s) > most {
		return strings.ToValidUTF8(s[:most], "") + "…"
	}
	return s
}
