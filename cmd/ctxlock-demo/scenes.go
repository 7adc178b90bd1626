package main

import (
	"context"
	"slices"
	"time"
)

// The scenes. In each, one process has the lock and the others wait for it; what differs is how it comes free.

const (
	// stint is how often a process adds to the balance in one go, so that it has the lock for a quarter of a second.
	stint = 5
	// rounds is how often each process has the lock in the first scene.
	rounds = 2
	// pauseBetween keeps the scenes apart on the timeline.
	pauseBetween = 300 * time.Millisecond
)

type act struct {
	title, story string
	play         func(*stage, context.Context) error
}

var acts = []act{
	{"1 release", "the work is done, and the next one gets the lock at once", (*stage).release},
	{"2 kill", "the holder dies, and the next one gets the lock when the key runs out", (*stage).crash},
	{"3 lost link", "the holder hears nothing more, and its context ends in time", (*stage).cutOff},
	{"4 force", "the lock is taken away, and the holder's context ends at once", (*stage).takeOver},
}

// play plays all scenes and has the processes end.
func (s *stage) play(ctx context.Context) error {
	for _, a := range acts {
		s.did(scene, "", a.title+": "+a.story)
		if err := a.play(s, ctx); err != nil {
			return err
		}
		if err := s.idle(ctx); err != nil {
			return err
		}
		if err := s.pause(ctx, pauseBetween); err != nil {
			return err
		}
	}
	return s.leave(ctx)
}

// release: each holder gives the lock back when its work is done, and a waiter gets it at once. Nobody comes back before all have
// had their turn: the lock is not fair, and this is about something else.
func (s *stage) release(ctx context.Context) error {
	for round := range rounds {
		if err := s.queue(processes...); err != nil {
			return err
		}
		all := (round + 1) * len(processes)
		if err := s.until(ctx, "all to have had the lock", func() bool { return s.count(holds) == all }); err != nil {
			return err
		}
	}
	return nil
}

// crash: the holder is killed. Its key outlives it, until its validity has run out.
func (s *stage) crash(ctx context.Context) error {
	if err := s.hold(ctx, "A", order{Times: stint, Keep: true}); err != nil {
		return err
	}
	if err := s.lineUp(ctx, "B", "C"); err != nil {
		return err
	}
	// Not while it writes: whether the last addition was made would be anybody's guess.
	if err := s.working(ctx, "A", stint); err != nil {
		return err
	}
	if err := s.kill("A"); err != nil {
		return err
	}
	return s.start("A")
}

// cutOff: the holder lives, but its link stalls, so it cannot extend the lock, nor hear that another has it. Its context
// ends all the same, by its own clock, and before another has the lock.
func (s *stage) cutOff(ctx context.Context) error {
	if err := s.hold(ctx, "B", order{Times: endless}); err != nil {
		return err
	}
	if err := s.lineUp(ctx, "C", "A"); err != nil {
		return err
	}
	// So long that it has extended the lock once, half-way through its validity.
	if err := s.pause(ctx, validity*6/10); err != nil {
		return err
	}
	s.stall("B")
	if err := s.until(ctx, "another to get the lock", func() bool { return s.others("B") && !s.holding["B"] }); err != nil {
		return err
	}
	s.heal("B")
	return nil
}

// takeOver: somebody cannot wait. The holder's context ends as soon as word reaches it.
func (s *stage) takeOver(ctx context.Context) error {
	if err := s.hold(ctx, "C", order{Times: stint, Keep: true}); err != nil {
		return err
	}
	if err := s.lineUp(ctx, "A"); err != nil {
		return err
	}
	// Not while it writes: this is the one case in which the next one may write, too.
	if err := s.working(ctx, "C", stint); err != nil {
		return err
	}
	return s.order("B", order{Times: stint, Force: true})
}

// hold has a process take the lock and begin to work.
func (s *stage) hold(ctx context.Context, name string, o order) error {
	if err := s.order(name, o); err != nil {
		return err
	}
	return s.working(ctx, name, 1)
}

// queue has others wait for the lock, and work when they get it.
func (s *stage) queue(names ...string) error {
	for _, name := range names {
		if err := s.order(name, order{Times: stint}); err != nil {
			return err
		}
	}
	return nil
}

// lineUp has others wait for the lock and returns when they do.
func (s *stage) lineUp(ctx context.Context, names ...string) error {
	if err := s.queue(names...); err != nil {
		return err
	}
	return s.until(ctx, "others to wait", func() bool {
		return !slices.ContainsFunc(names, func(name string) bool { return !s.waiting[name] && !s.holding[name] })
	})
}
