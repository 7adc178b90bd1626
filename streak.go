package ctxlock

import (
	"context"
	"errors"
	"fmt"
	"time"
)

// A wait whose attempts fail goes on in silence. When it ends, its error says for how long they
// have failed, and how many. Those who stand behind it in the line of this process make no
// attempts, so they say the same.

// streak is the attempts at a name that have failed in a row without telling who has the lock.
type streak struct {
	attempts int
	since    time.Duration // when the first of them began
	last     error         // what the last of them failed with
}

// note counts an attempt that began then.
func (s *streak) note(err error, began time.Duration) { s.count(err, tells(err), began) }

// tells tells whether an attempt that failed has told who has the lock. The error may be somebody
// else's code, as that of a ValueFunc, so not under k.mu.
func tells(err error) bool {
	var quorum *QuorumError
	return errors.Is(err, ErrNotLocked) && !(errors.As(err, &quorum) && quorum.ToFailures())
}

// count is note when it is known what the attempt has told.
func (s *streak) count(err error, told bool, began time.Duration) {
	if told {
		*s = streak{}
		return
	}
	if s.attempts == 0 {
		s.since = began
	}
	s.attempts++
	s.last = err
}

// failing is the error of the last attempt of a streak.
type failing struct {
	error
	attempts int
	span     time.Duration
}

func (f *failing) Error() string {
	return fmt.Sprintf("%v; failing for %v, %s", f.error, f.span.Round(time.Millisecond), counted(f.attempts, "attempt"))
}

// Unwrap gives the error of the last attempt.
func (f *failing) Unwrap() error { return f.error }

// counted is a number of things.
func counted(n int, thing string) string {
	if n == 1 {
		return fmt.Sprintf("%d %s", n, thing)
	}
	return fmt.Sprintf("%d %ss", n, thing)
}

// note counts an attempt of this wait that has failed, and if that was made for those who stand in
// line for the name, also for them. What an attempt on its own terms lacks, they may not.
func (s *speaker) note(err error) {
	told := tells(err)
	if s.streak.count(err, told, s.claimed); !s.placed || s.bare {
		return
	}
	s.k.mu.Lock()
	defer s.k.mu.Unlock()
	if queue := s.k.lines[s.name]; queue != nil {
		queue.streak.count(err, told, s.claimed)
	}
}

// lastWord is the error that the wait ends with.
func (s *speaker) lastWord(ctx context.Context) error {
	return s.k.lastWord(ctx, s.name, s.met(ctx))
}

// met is what the wait has met: what attempts have failed with lately, its own or those of the
// line, or what its last attempt has met; or, if it has made none, who has the lock in this
// process.
func (s *speaker) met(ctx context.Context) error {
	here, longest := s.longest()
	span := s.k.now() - longest.since
	switch ended := ctx.Err(); {
	case longest.attempts > 1, longest.attempts == 1 && ended != nil && !errors.Is(longest.last, ended):
		return &failing{longest.last, longest.attempts, span}
	case s.last == nil && here:
		return &heldByAnother{s.name, true}
	}
	return s.last
}

// longest is the longest streak, of this wait's own and that of the line; here tells whether the
// lock is in this process.
func (s *speaker) longest() (here bool, longest streak) {
	s.k.crowd.Lock()
	s.k.mu.Lock()
	defer s.k.mu.Unlock()
	s.k.crowd.Unlock()
	here, longest = s.k.heldHere(s.name), s.streak
	if queue := s.k.lines[s.name]; queue != nil && !here && queue.streak.attempts > longest.attempts {
		longest = queue.streak
	}
	return here, longest
}
