package memqueue

import (
	"sync"
	"time"
)

// Clock is what a queue needs of time.
type Clock interface {
	Now() time.Time
	// AfterFunc calls f, in any goroutine, once d has passed, unless stop is called
	// before.
	AfterFunc(d time.Duration, f func()) (stop func())
}

// System is the clock of the machine.
func System() Clock { return system{} }

type system struct{}

func (system) Now() time.Time { return time.Now() }
func (system) AfterFunc(d time.Duration, f func()) func() {
	t := time.AfterFunc(d, f)
	return func() { t.Stop() }
}

// Manual is a clock that moves only when told to, for tests.
type Manual struct {
	mu     sync.Mutex
	now    time.Time
	nextID int
	timers map[int]timer
}

type timer struct {
	at time.Time
	f  func()
}

// NewManual returns a clock that shows t.
func NewManual(t time.Time) *Manual { return &Manual{now: t, timers: map[int]timer{}} }

// Now implements Clock.
func (m *Manual) Now() time.Time {
	m.mu.Lock()
	defer m.mu.Unlock()
	return m.now
}

// AfterFunc implements Clock. f runs inside Advance.
func (m *Manual) AfterFunc(d time.Duration, f func()) func() {
	m.mu.Lock()
	defer m.mu.Unlock()
	m.nextID++
	id := m.nextID
	m.timers[id] = timer{m.now.Add(d), f}
	return func() {
		m.mu.Lock()
		defer m.mu.Unlock()
		delete(m.timers, id)
	}
}

// Advance moves the clock on by d and calls what has become due, earliest first.
func (m *Manual) Advance(d time.Duration) {
	m.mu.Lock()
	end := m.now.Add(d)
	for {
		best := 0
		for id, t := range m.timers {
			if !t.at.After(end) && (best == 0 || t.at.Before(m.timers[best].at) || t.at.Equal(m.timers[best].at) && id < best) {
				best = id
			}
		}
		if best == 0 {
			break
		}
		t := m.timers[best]
		delete(m.timers, best)
		if t.at.After(m.now) {
			m.now = t.at
		}
		m.mu.Unlock()
		t.f()
		m.mu.Lock()
	}
	m.now = end
	m.mu.Unlock()
}
