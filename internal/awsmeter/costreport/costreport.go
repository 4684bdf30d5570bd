// Package costreport adds up what a run cost, from the lines that meters wrote or
// from an estimate, and prices it.
package costreport

import (
	"bufio"
	"cmp"
	"encoding/json"
	"fmt"
	"io"
	"slices"
	"strings"

	"github.com/gustflow/gust/internal/awsmeter"
	"github.com/gustflow/gust/internal/awsmeter/prices"
)

// Report is what a run cost.
type Report struct {
	DagID string `json:"dag_id"`
	RunID string `json:"run_id"`
	// Source says where the figures come from: "metered" or "estimated".
	Source string  `json:"source"`
	Prices string  `json:"prices"` // region and date of the price table
	USD    float64 `json:"usd"`
	// Items are the sums by what is billed, dearest first.
	Items []Item `json:"items"`
	// Tasks are the sums by task, dearest first; TaskID "" is the run itself: steps,
	// creation, end.
	Tasks []Task `json:"tasks"`
	// Instances is how many task instances were seen, Invocations how many functions
	// ran for them, Calls how many requests were made.
	Instances   int      `json:"instances"`
	Invocations float64  `json:"invocations"`
	Calls       float64  `json:"calls"`
	Notes       []string `json:"notes,omitempty"`
}

// Item is one line of the bill.
type Item struct {
	Item     prices.Item `json:"item"`
	Quantity float64     `json:"quantity"`
	Unit     string      `json:"unit"`
	USD      float64     `json:"usd"`
}

// Task is what one task cost, all its instances and tries together.
type Task struct {
	TaskID    string         `json:"task_id"`
	Instances int            `json:"instances"`
	USD       float64        `json:"usd"`
	Usage     awsmeter.Usage `json:"-"`
}

// Collector adds lines up. The zero value is empty.
type Collector struct {
	DagID, RunID string

	items     map[prices.Item]float64
	tasks     map[string]*Task
	instances map[awsmeter.Label]bool
	sum       awsmeter.Usage
	lines     int
}

// Add adds the part of a line that is for the run. bytes is the length of the line
// as it was logged, which costs too; 0 if it was not.
func (c *Collector) Add(l awsmeter.Line, bytes int, table *prices.Table) {
	if c.items == nil {
		c.items, c.tasks, c.instances = map[prices.Item]float64{}, map[string]*Task{}, map[awsmeter.Label]bool{}
	}
	part := 0
	for _, u := range l.Usage {
		if u.DagID != c.DagID || u.RunID != c.RunID {
			continue
		}
		part++
		t := c.tasks[u.TaskID]
		if t == nil {
			t = &Task{TaskID: u.TaskID}
			c.tasks[u.TaskID] = t
		}
		if label := u.Label(); u.TaskID != "" && !c.instances[label] {
			c.instances[label] = true
			t.Instances++
		}
		for _, a := range u.Amounts(l.MemoryMB, l.Arch) {
			c.add(t, a.Item, a.Quantity, table)
		}
		t.Usage.Add(u)
		c.sum.Add(u)
		if bytes > 0 {
			c.add(t, prices.LogsIngest, float64(bytes)/float64(len(l.Usage))/(1<<30), table)
		}
	}
	if part > 0 {
		c.lines++
	}
}

func (c *Collector) add(t *Task, i prices.Item, n float64, table *prices.Table) {
	c.items[i] += n
	t.USD += table.Cost(i, n)
}

// Read adds every line of a log: plain lines, or the JSON of CloudWatch Logs'
// filter-log-events and get-log-events. It returns how many were a meter's.
func (c *Collector) Read(r io.Reader, table *prices.Table) (int, error) {
	br := bufio.NewReader(r)
	head, _ := br.Peek(512)
	if strings.HasPrefix(strings.TrimSpace(string(head)), `{`) && !strings.Contains(string(head), `{"`+awsmeter.LineKey+`"`) {
		var events struct {
			Events []struct{ Message string }
		}
		dec := json.NewDecoder(br)
		n := 0
		for {
			events.Events = nil
			if err := dec.Decode(&events); err == io.EOF {
				return n, nil
			} else if err != nil {
				return n, fmt.Errorf("the log is neither lines nor the JSON of `aws logs filter-log-events`: %w", err)
			}
			for _, e := range events.Events {
				n += c.line([]byte(e.Message), table)
			}
		}
	}
	n := 0
	for {
		b, err := br.ReadBytes('\n')
		n += c.line(b, table)
		if err == io.EOF {
			return n, nil
		}
		if err != nil {
			return n, err
		}
	}
}

func (c *Collector) line(b []byte, table *prices.Table) int {
	l, ok := awsmeter.ParseLine(b)
	if !ok {
		return 0
	}
	c.Add(l, len(b), table)
	return 1
}

// Lines is how many lines had something of the run.
func (c *Collector) Lines() int { return c.lines }

// Report sums up.
func (c *Collector) Report(source string, table *prices.Table, notes ...string) Report {
	r := Report{
		DagID: c.DagID, RunID: c.RunID, Source: source, Prices: table.Region + ", " + table.AsOf, Instances: len(c.instances),
		Invocations: c.sum.Invocations, Calls: c.sum.Calls, Notes: notes, Items: []Item{}, Tasks: []Task{},
	}
	for i, n := range c.items {
		usd := table.Cost(i, n)
		r.USD += usd
		r.Items = append(r.Items, Item{i, n, table.Of(i).Unit, usd})
	}
	for _, t := range c.tasks {
		r.Tasks = append(r.Tasks, *t)
	}
	slices.SortFunc(r.Items, func(a, b Item) int {
		return cmp.Or(cmp.Compare(b.USD, a.USD), strings.Compare(string(a.Item), string(b.Item)))
	})
	slices.SortFunc(r.Tasks, func(a, b Task) int { return cmp.Or(cmp.Compare(b.USD, a.USD), strings.Compare(a.TaskID, b.TaskID)) })
	return r
}
