package awsemu

import (
	"crypto/md5"
	"encoding/hex"
	"encoding/json"
	"fmt"
	"sort"
	"strconv"
	"sync"
	"time"
)

// Queue is a standard queue with an event source mapping: what is sent arrives at
// a handler a drawn time later, as soon as the mapping may invoke one more.
type Queue struct {
	Name string
	c    *Cloud
	q    QueueOptions

	mu      sync.Mutex
	nextID  int
	waiting []*message // available now, oldest first
	later   int        // delayed, on their way or in flight
	busy    int        // batches in flight
	// allowed is how many batches may be in flight since the backlog began to grow.
	ramp    time.Time
	Counts  QueueCounts
	stopped bool
}

// QueueOptions configure a queue and its mapping.
type QueueOptions struct {
	Function   string
	BatchSize  int
	Visibility time.Duration
	// Pollers > 0 is provisioned mode with that many event pollers, 10 invocations
	// each; 0 is the default mode, with its ramp.
	Pollers int
	// MaxConcurrency bounds the default mode; 0 = 1,250.
	MaxConcurrency int
	// MaxReceives is after how many deliveries a message is given up; 0 = never.
	MaxReceives int
	// Duplicate is the share of messages that are delivered twice.
	Duplicate float64
}

// QueueCounts is what SQS bills for a queue, and what became of messages.
type QueueCounts struct {
	Sends, Receives, Deletes, Messages, Redelivered, Dead int
	MostBusy                                              int
}

type message struct {
	id, body string
	sent     time.Time
	received int
}

// AddQueue makes a queue; its URL is https://cloud.invalid/queue/<name>.
func (c *Cloud) AddQueue(name string, o QueueOptions) *Queue {
	if o.BatchSize == 0 {
		o.BatchSize = 1
	}
	q := &Queue{Name: name, c: c, q: o}
	c.mu.Lock()
	c.queues[name] = q
	c.mu.Unlock()
	return q
}

// URL is the queue's.
func (q *Queue) URL() string { return "https://cloud.invalid/queue/" + q.Name }

// sqs carries out an operation of the API; the call began then.
func (c *Cloud) sqs(operation string, body []byte, began time.Time) (any, error) {
	var in struct {
		QueueURL string `json:"QueueUrl"`
		Entries  []struct {
			ID            string `json:"Id"`
			MessageBody   string
			DelaySeconds  int
			ReceiptHandle string
		}
	}
	if err := json.Unmarshal(body, &in); err != nil {
		return nil, validation(err)
	}
	c.mu.Lock()
	var q *Queue
	for _, have := range c.queues {
		if have.URL() == in.QueueURL {
			q = have
		}
	}
	c.mu.Unlock()
	if q == nil {
		return nil, &awsError{400, "QueueDoesNotExist", "The specified queue does not exist.", nil}
	}
	switch operation {
	case "SendMessageBatch":
		if len(in.Entries) > 10 {
			return nil, &awsError{400, "TooManyEntriesInBatchRequest", "", nil}
		}
		ok := []map[string]string{}
		for _, e := range in.Entries {
			id := q.send(e.MessageBody, time.Duration(e.DelaySeconds)*time.Second, began)
			sum := md5.Sum([]byte(e.MessageBody))
			ok = append(ok, map[string]string{"Id": e.ID, "MessageId": id, "MD5OfMessageBody": hex.EncodeToString(sum[:])})
		}
		q.mu.Lock()
		q.Counts.Sends++
		q.mu.Unlock()
		return map[string]any{"Successful": ok, "Failed": []any{}}, nil
	case "ChangeMessageVisibility":
		return map[string]any{}, nil // comes again after the whole timeout: the worse case
	}
	return nil, &awsError{400, "UnknownOperationException", operation + " is not modelled: queues are read by mappings", nil}
}

// send puts a message on its way. The drawn time runs from the sender's call.
func (q *Queue) send(body string, delay time.Duration, began time.Time) string {
	q.mu.Lock()
	q.nextID++
	m := &message{id: q.Name + "-" + strconv.Itoa(q.nextID), body: body, sent: time.Now()}
	q.Counts.Messages++
	twice := q.q.Duplicate > 0 && q.c.dice.roll("duplicate|"+body) < q.q.Duplicate
	q.mu.Unlock()
	q.c.Trace.sent(q.Name, m.id, body, began)
	q.arrive(m, time.Until(began.Add(q.c.draw(pathSQS, body)))+delay)
	if twice {
		d := *m
		q.arrive(&d, time.Until(began.Add(q.c.draw(pathSQS, body)))+delay)
	}
	return m.id
}

// arrive makes a message available after d.
func (q *Queue) arrive(m *message, d time.Duration) {
	q.mu.Lock()
	q.later++
	q.mu.Unlock()
	time.AfterFunc(max(d, 0), func() {
		q.mu.Lock()
		q.later--
		q.waiting = append(q.waiting, m)
		q.mu.Unlock()
		q.pump()
	})
}

// allowed is how many batches may be in flight now. In default mode five, and
// while there is a backlog more by the minute's growth; when all was quiet for a
// minute it starts again.
func (q *Queue) allowed(now time.Time) int {
	if q.q.Pollers > 0 {
		return 10 * q.q.Pollers
	}
	r := q.c.o.Latencies.Ramps.SQSDefault
	most := 1250
	if q.q.MaxConcurrency > 0 {
		most = q.q.MaxConcurrency
	}
	n := r.Initial
	if !q.ramp.IsZero() {
		n += now.Sub(q.ramp).Minutes() * r.PerMinute
	}
	return min(int(n), most)
}

// pump invokes handlers as long as messages wait and the mapping may.
func (q *Queue) pump() {
	q.mu.Lock()
	defer q.mu.Unlock()
	now := time.Now()
	for len(q.waiting) > 0 && !q.stopped {
		if allowed := q.allowed(now); q.busy >= allowed {
			if q.ramp.IsZero() {
				q.ramp = now
			}
			if q.q.Pollers == 0 { // one more in a moment
				perSecond := q.c.o.Latencies.Ramps.SQSDefault.PerMinute / 60
				time.AfterFunc(time.Duration(float64(time.Second)/perSecond), q.pump)
			}
			return
		}
		n := min(q.q.BatchSize, len(q.waiting))
		batch := append([]*message(nil), q.waiting[:n]...)
		q.waiting = append(q.waiting[:0], q.waiting[n:]...)
		q.busy++
		q.Counts.MostBusy = max(q.Counts.MostBusy, q.busy)
		q.Counts.Receives++
		q.c.running.Add(1)
		go func() {
			defer q.c.running.Done()
			q.deliver(batch)
		}()
	}
}

// record is a message as a handler gets it.
func (m *message) record(queue string) map[string]any {
	return map[string]any{
		"messageId": m.id, "body": m.body, "receiptHandle": m.id, "eventSource": "aws:sqs", "eventSourceARN": "arn:aws:sqs:us-east-1:000000000000:" + queue,
		"attributes": map[string]string{"ApproximateReceiveCount": strconv.Itoa(m.received), "SentTimestamp": strconv.FormatInt(m.sent.UnixMilli(), 10)},
	}
}

// deliver invokes the function with a batch; what it did not take comes again
// after the visibility timeout.
func (q *Queue) deliver(batch []*message) {
	received := time.Now()
	records := make([]map[string]any, len(batch))
	for i, m := range batch {
		m.received++
		records[i] = m.record(q.Name)
	}
	event, err := json.Marshal(map[string]any{"Records": records})
	if err != nil {
		panic(err) // texts
	}
	ids := make([]string, len(batch))
	for i, m := range batch {
		ids[i] = m.id
	}
	out, err := q.c.invoke(q.q.Function, event, ids)
	again := map[string]bool{}
	if err != nil {
		for _, m := range batch {
			again[m.id] = true
		}
	} else {
		var res struct {
			BatchItemFailures []struct {
				ItemIdentifier string `json:"itemIdentifier"`
			} `json:"batchItemFailures"`
		}
		if uerr := json.Unmarshal(out, &res); uerr != nil {
			q.c.o.Log.Error("the function's answer is not understood", "function", q.q.Function, "err", uerr)
		}
		for _, f := range res.BatchItemFailures {
			again[f.ItemIdentifier] = true
		}
	}
	q.mu.Lock()
	q.busy--
	if len(again) < len(batch) {
		q.Counts.Deletes++
	}
	if len(q.waiting) == 0 && q.busy == 0 {
		q.ramp = time.Time{}
	}
	q.mu.Unlock()
	for _, m := range batch {
		if !again[m.id] {
			continue
		}
		q.mu.Lock()
		if q.q.MaxReceives > 0 && m.received >= q.q.MaxReceives {
			q.Counts.Dead++
			q.mu.Unlock()
			continue
		}
		q.Counts.Redelivered++
		q.mu.Unlock()
		q.arrive(m, time.Until(received.Add(q.q.Visibility)))
	}
	q.pump()
}

// Idle reports whether nothing waits, is on its way or in flight.
func (q *Queue) Idle() bool {
	q.mu.Lock()
	defer q.mu.Unlock()
	return len(q.waiting) == 0 && q.later == 0 && q.busy == 0
}

// String summarises the queue.
func (q *Queue) String() string {
	q.mu.Lock()
	defer q.mu.Unlock()
	return fmt.Sprintf("%s: %d messages in %d sends, %d receives, %d deletes, at most %d at once, %d redelivered, %d dead",
		q.Name, q.Counts.Messages, q.Counts.Sends, q.Counts.Receives, q.Counts.Deletes, q.Counts.MostBusy, q.Counts.Redelivered, q.Counts.Dead)
}

// Queues returns all queues by name.
func (c *Cloud) Queues() []*Queue {
	c.mu.Lock()
	defer c.mu.Unlock()
	out := make([]*Queue, 0, len(c.queues))
	for _, q := range c.queues {
		out = append(out, q)
	}
	sort.Slice(out, func(i, j int) bool { return out[i].Name < out[j].Name })
	return out
}
