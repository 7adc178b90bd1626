package ctxlock

import (
	"context"
	"errors"
	"strings"
	"time"

	"github.com/ctxlock/ctxlock/internal/jitter"
	"github.com/ctxlock/ctxlock/store"
)

// The queue on the server is where the speakers of all processes stand. Whoever releases the lock gives its keys to the first of them, in the
// same atomic step, and the server tells that one: so a lock changes hands in one round trip, half of it there and half of it back, and nobody
// else is woken.
//
// The queue is for order and speed only; the keys decide. Whatever goes wrong with it, somebody looks: the one who was chosen, and did
// not hear of it, when the key should have run out; everybody, when a connection was lost or a server emptied. Whoever finds the keys free takes
// them, and whoever finds the own owner value has the lock.
//
// A new holder does not know when it was chosen, and the word may have been long on its way. It knows only by which of its claims it stood in
// the queue: before that was sent, it cannot have been chosen, so its trust counts from there. Claims have epochs for that.

// queueing is what a lock knows of the queue.
type queueing struct {
	aware bool        // somebody may stand in it, so the lock is passed on
	note  *contention // of the name; nil until it is needed
	// epoch and settled are those of its place; zero, unless a claim from there may still be under way.
	epoch, settled int32
}

const (
	// mostEpochs is how many claims may be without an answer before they are no longer told apart.
	mostEpochs = 8
	// mostStrays is how many claims before the last are looked for in the queue when it is left, if any of them had no answer.
	mostStrays = 64
	// glance is how soon after it was passed on a lock is looked at, which also has its keys watched. Shorter holdings do without.
	glance = 50 * time.Millisecond
	// queueDownFor is how long the queues of a node are left alone when it has not answered, and others could.
	queueDownFor = 5 * time.Second
	// rejoinAfter is how often one who stands in the queue makes sure that it still does: well within its life.
	rejoinAfter = 10 * time.Second
	// placeLife is how long a place stays in a queue that nobody comes to any more.
	placeLife = time.Minute
	// contendedFor is how long after somebody had to wait for a name others go to the queue at once, and mostContended how many names
	// are remembered.
	contendedFor  = time.Second
	mostContended = 1024
)

// patient sets until when a claim is waited for; never, while there is none. Under k.mu.
func (l *holding) patient(until time.Duration) {
	if l.state == queued {
		l.endBy(until)
	}
}

// errNotHanded ends the context of a holding that was ready and not needed.
var errNotHanded = errors.New("ctxlock: the lock was taken otherwise")

// beside is the names of the keys beside those of a lock.
type beside struct {
	queue    string
	counters []string
}

// contention is what is remembered of a name that somebody had to wait for. Its beside does not change.
type contention struct {
	at      time.Duration // when that was last
	beside  *beside
	turns   turns
	swept   time.Duration // when what an own wait or attempt had left was last found to be gone
	renewed time.Duration // when a claim last had the queue live on
}

// place is where a wait stands in the queue. l does not change. ops, calls, over, timed, watched and
// told belong to the goroutine of the wait. All else is under k.mu: notifications need it, too.
type place struct {
	l     *holding
	ops   []store.Op // these two are the wait's own
	calls bool       // nothing that was heard leads to its next claim, so the lock should not be free

	over bool // the wait goes on without it

	rank    int64                     // where it stands, or stood; zero if that is not known
	epoch   int32                     // of the last claim
	settled int32                     // of the last that was answered
	stale   int32                     // of the last that was sent before the lock was taken by force here; zero if none
	stray   int32                     // of the first that was not, and may still arrive; zero if none
	strayed time.Duration             // when the last of those was given up
	sent    [mostEpochs]time.Duration // when the claim of each epoch was sent, by its remainder
	cancel  context.CancelCauseFunc   // ends a claim that is under way; nil if none is
	timed   bool                      // it asks how long the key lives
	late    bool                      // a claim was not answered
	stream  int64                     // of those that were not; zero if that is not known
	watched bool                      // the holder does not pass the lock on, and the keys are watched
	told    time.Duration             // when the holder was told to, or never
	peer    string                    // the holder that the last claim has met, if that does without the queue
	turned  bool                      // it is another than the claim before has met
}

// queuedKeys is how many of a lock's keys are passed on in one step: all, or the first alone where the others are in other slots of a
// cluster or on other nodes; zero if there are no queues.
func (k *locker) queuedKeys() int {
	switch most := k.store.Queues(); {
	case !k.queue || most == 0:
		return 0
	case k.keys() <= most:
		return k.keys()
	}
	return 1
}

// queues tells whether this wait may stand in the queue.
func (s *speaker) queues() bool {
	queued := s.k.queuedKeys()
	if s.terms.From != "" || queued == 0 {
		return false
	}
	if queued == s.k.keys() { // the queue is where all keys are
		return true
	}
	lane := s.k.queueLane(s.name)
	s.k.mu.Lock()
	defer s.k.mu.Unlock()
	return s.k.now() >= s.k.queueDown[lane]
}

// contended tells whether a wait for the name should stand in line at once: because somebody does, because the lock is in this process, or
// because it was contended just now.
func (k *locker) contended(name string) bool {
	k.mu.Lock()
	defer k.mu.Unlock()
	if k.lines[name] != nil || k.heldHere(name) || k.paused(name) {
		return true
	}
	return k.contendedWithin(name, contendedFor)
}

// contendedWithin tells whether somebody has waited for a name so lately. Under k.mu.
func (k *locker) contendedWithin(name string, d time.Duration) bool {
	c := k.contention[name]
	return c != nil && k.now() < c.at+d
}

// noteContention remembers that a name is contended. Under k.mu.
func (k *locker) noteContention(name string) *contention {
	c := k.contention[name]
	if c == nil {
		for other := range k.contention {
			if len(k.contention) < mostContended {
				break
			}
			delete(k.contention, other)
		}
		c = &contention{beside: k.besideOf(name), swept: -1, renewed: -rejoinAfter}
		k.othersTurn(c)
		k.contention[name] = c
	}
	c.at = k.now()
	return c
}

// besideOf makes the names of what stands beside a lock.
func (k *locker) besideOf(name string) *beside {
	b := &beside{queue: queueKeyOf(k.prefix, name), counters: make([]string, k.keys())}
	for i := range b.counters {
		b.counters[i] = counterKeyOf(k.prefix, i, name)
	}
	return b
}

// claimPlace claims from a place in the queue, which it takes first if it has none. Without a holding and without an error, it did not get the
// lock; and without a place either, it does not stand in the queue.
func (s *speaker) claimPlace(ctx context.Context) (*holding, setback, error) {
	if s.place == nil {
		if err := s.openPlace(ctx); err != nil {
			return nil, setback{}, err
		}
	}
	p := s.place
	back, standing := p.claim(ctx)
	switch {
	case back.err == nil:
		l := s.leaveWithLock()
		if len(p.ops) < len(l.keys) {
			l, back = s.k.settle(ctx, l)
		}
		return l, back, nil
	case !standing:
		if back.queueErr != nil && back.queueErr != errTooLate && !back.unacknowledged() {
			s.rank = p.rank // it has had no chance
		}
		s.leaveQueue()
	}
	return nil, back, nil
}

// withoutQueue is for a queue that is on one of several nodes, which does not answer: the others may do without it.
func (s *speaker) withoutQueue(ctx context.Context, back setback) bool {
	var missing *ReplicaError
	switch {
	case back.queueErr == nil || s.k.queuedKeys() == s.k.keys():
		return false
	case store.IsPermanent(back.queueErr) || errors.As(back.queueErr, &missing):
		return false
	case ctx.Err() != nil || s.k.life.Err() != nil:
		s.k.suspect(s.name)
		return false
	}
	s.k.queueIsDown(s.k.queueLane(s.name))
	s.leaveQueue()
	return true
}

// queueLane is the lane to the node that the queue of a name is on.
func (k *locker) queueLane(name string) int { return k.store.Lane(keyOf(k.prefix, 0, name)) }

// queueIsDown has the queues of one node left alone for a while.
func (k *locker) queueIsDown(lane int) {
	k.mu.Lock()
	defer k.mu.Unlock()
	k.queueDown[lane] = k.now() + queueDownFor
}

// suspect is for a claim in the queue that its caller has given up. That says nothing of the node, but callers who always give up
// sooner than an attempt does would never find out. So the node is asked, once for all of them.
func (k *locker) suspect(name string) {
	lane := k.queueLane(name)
	k.mu.Lock()
	defer k.mu.Unlock()
	if k.suspects[lane] {
		return
	}
	k.suspects[lane] = k.spawnLocked(func() {
		ctx, cancel := context.WithTimeout(k.life, k.patience.now())
		defer cancel()
		ops := []store.Op{{Key: keyOf(k.prefix, 0, name)}}
		k.store.Look(ctx, ops)
		if err := ops[0].Err; err != nil && !store.IsPermanent(err) {
			k.queueIsDown(lane)
		}
		k.mu.Lock()
		defer k.mu.Unlock()
		delete(k.suspects, lane)
	})
}

// openPlace makes a place, which nobody knows of yet.
func (s *speaker) openPlace(ctx context.Context) error {
	owner, err := s.owner()
	if err != nil {
		return err
	}
	l := s.heir
	if l == nil || s.heirUsed {
		l = s.k.newHolding(ctx, s.name, s.terms, owner, queued)
	}
	l.nameKeys(owner)
	s.heirUsed = true
	k := s.k
	k.mu.Lock()
	defer k.mu.Unlock()
	if k.ended {
		l.end(ErrLockerClosed)
		return ErrLockerClosed
	}
	// Where the lock goes from hand to hand, its key lives for so long that the first look comes in time.
	timed := !k.contendedWithin(s.name, min(contendedFor, l.validity/4))
	s.place = &place{l: l, ops: make([]store.Op, max(1, k.queuedKeys())), told: never, timed: timed, calls: true, rank: s.rank}
	s.rank = 0
	l.queueing.note = k.noteContention(s.name)
	l.unanswered = 0
	k.link(l)
	k.places[l.owner] = s.place
	return nil
}

// claim claims once. It gives no error if the lock is held then, and else whether it stands in the queue, or may.
func (p *place) claim(ctx context.Context) (back setback, standing bool) {
	l, k := p.l, p.l.k
	var ended error
	if ctx.Err() != nil {
		ended = ctxError(ctx, l.name, nil)
	}
	asked, cancel := context.WithCancelCause(l.Context)
	defer cancel(nil)
	sent := p.prepare(cancel)
	k.store.Claim(asked, p.ops)
	for p.overtaken() && asked.Err() == nil {
		sent = p.prepare(cancel)
		k.store.Claim(asked, p.ops)
	}
	ops := p.ops
	if p.reserves() {
		ops = p.claimRest()
	}
	if ctx.Err() != nil {
		ended = ctxError(ctx, l.name, nil)
	}
	k.mu.Lock()
	defer k.mu.Unlock()
	p.cancel = nil
	p.note(sent)
	if anyUnknown(ops) {
		p.strays(p.ops[0].Epoch, streamOf(ops))
	}
	if p.late && l.state == held { // word of that has come before the answer
		p.won()
	}
	mine := l.state == queued && p.mine()
	if mine && l.overtaken == 0 {
		p.take(sent)
	}
	if l.state == queued {
		l.patient(never)
	}
	p.over = p.over || l.state == over
	if l.state == held {
		return setback{}, true
	}
	back = k.appraise(ended, l, p.all(ops))
	back.queueErr = p.ops[0].Err
	if mine && l.overtaken > 0 { // since that was asked above: it has to claim again
		back.err = &heldByAnother{l.name, true}
		return back, true
	}
	return back, !p.over && (p.ops[0].Queued || p.ops[0].Err != nil && !anyUnacknowledged(p.ops))
}

// overtaken tells whether the lock was taken by force here since the claim was sent: then it has to claim again, which finds out.
func (p *place) overtaken() bool {
	p.l.k.mu.Lock()
	defer p.l.k.mu.Unlock()
	return p.l.state == queued && p.l.overtaken > 0 && p.ops[0].Err == nil
}

// all adds the keys that were not asked for, since the first was to be had before them.
func (p *place) all(ops []store.Op) []store.Op {
	for i := len(ops); i < len(p.l.keys); i++ {
		ops = append(ops[:len(ops):len(ops)], store.Op{Key: p.l.keys[i].name, Owner: p.l.owner})
	}
	return ops
}

// reserves tells whether the first key is the place's own, and the others are still to be claimed.
func (p *place) reserves() bool { return len(p.ops) < len(p.l.keys) && p.ops[0].Mine() }

// claimRest claims all keys where one of them is the own already. If that fails the place is over, and the next in the queue gets the
// first key: the others are on their way to be released, or in other hands.
func (p *place) claimRest() []store.Op {
	l, k := p.l, p.l.k
	l.claimOps(manner{}, l.ops)
	k.mu.Lock()
	if l.state != queued {
		k.mu.Unlock()
		return l.ops
	}
	l.state = claiming
	l.unanswered = int32(len(l.keys))
	p.won()
	k.took(l.queueing.note)
	l.endBy(k.now() + k.patience.now())
	k.mu.Unlock()
	l.ask(l.ops)
	l.confirm()
	return l.ops
}

// prepare begins a new epoch, and writes the claim down.
func (p *place) prepare(cancel context.CancelCauseFunc) (sent time.Duration) {
	l, k := p.l, p.l.k
	k.mu.Lock()
	defer k.mu.Unlock()
	sent, p.cancel = k.now(), cancel
	if l.overtaken > 0 {
		p.stale = p.epoch
	}
	l.overtaken = 0 // what it is answered is from after that
	if p.epoch-p.settled < mostEpochs-1 {
		p.epoch++
		p.sent[p.epoch%mostEpochs] = sent
	}
	l.claimOps(manner{}, p.ops)
	note := l.queueing.note
	for i := range p.ops {
		op := &p.ops[i]
		op.Queue, op.Epoch, op.Settled, op.Fenced, op.Timed = note.beside.queue, p.epoch, p.settled, l.terms.Fencing, p.timed
	}
	p.timed = true // those who ask again have been waiting
	p.ops[0].Return = p.rank
	if p.calls {
		p.ops[0].Call = max(l.validity/2, time.Millisecond)
	}
	p.calls = false
	if p.rank > 0 || sent-note.renewed >= rejoinAfter {
		p.ops[0].Renew, note.renewed = true, sent
	}
	l.patient(sent + k.patience.now())
	return sent
}

// note books what was answered, whether it was good news or not. Under k.mu.
func (p *place) note(sent time.Duration) {
	if p.ops[0].Err != nil { // the lock may still be free: if so, the next claim finds it so
		p.calls = p.ops[0].Call > 0
	}
	if p.ops[0].Err != nil && !p.ops[0].Queued {
		return
	}
	p.l.k.patience.learn(p.l.k.now() - sent)
	p.settled = p.ops[0].Epoch
	p.watched = p.ops[0].Watched
	p.turned = false
	if !p.watched {
		p.peer = ""
	}
	p.told = never
	if p.ops[0].Told {
		p.told = p.l.k.now()
	}
	if p.ops[0].Queued {
		if rank := p.ops[0].Rank; rank > 0 {
			p.rank = rank
		}
		note := p.l.k.noteContention(p.l.name)
		if p.watched { // somebody has it who does not know of the queue
			p.meet(note)
		}
	}
}

// meet notes a holder that does not pass the lock on as it is. One that has just been told to may yet. Under k.mu.
func (p *place) meet(note *contention) {
	holder := p.stranger()
	if holder == "" { // it is free, and left to others
		p.peer, p.turned = "", true
		return
	}
	k := p.l.k
	if p.ops[0].Told || k.mayBeOwn(holder) || ours(holder) && !queueless(holder) {
		holder = ""
	}
	p.turned = holder != "" && holder != p.peer
	if p.peer = holder; p.turned {
		note.turns.meet(k.now())
	}
	k.othersTurn(note)
}

// stranger is whom the claim has met; empty if that is not known.
func (p *place) stranger() string {
	for i := range p.ops {
		if op := &p.ops[i]; op.Err == nil && op.Holder != store.Unnamed && !op.Mine() {
			return op.Holder
		}
	}
	return ""
}

// mine tells whether the answers make a lock.
func (p *place) mine() bool {
	n := 0
	for i := range p.ops {
		if p.ops[i].Mine() {
			n++
		}
	}
	return n >= p.l.k.majority // never, if the others are still to be claimed
}

// take makes the place a lock that was free, or was passed on before. Under k.mu.
func (p *place) take(sent time.Duration) {
	l, k := p.l, p.l.k
	for i := range p.ops {
		l.book(i, sent, &p.ops[i])
		if p.ops[i].Mine() {
			l.token = max(l.token, p.ops[i].Token)
		}
	}
	k.took(l.queueing.note)
	p.won()
	if k.begin(l, sent); l.state != held {
		p.over = true
		p.ops[0].Err = errTooLate
	}
}

// won notes in the lock what is left of its place. Under k.mu.
func (p *place) won() {
	if p.epoch > 1 { // else nobody was in its way
		p.l.k.noteContention(p.l.name)
	}
	p.l.queueing.aware = true
	if p.late {
		p.l.queueing.epoch, p.l.queueing.settled = p.epoch, p.oldest()
		for i := range p.l.keys {
			p.l.keys[i].late = true
		}
	}
}

// strays notes that the claim of an epoch had no answer, and may arrive when later ones have been answered. Under k.mu.
func (p *place) strays(epoch int32, stream int64) {
	if p.late && p.stream != stream {
		stream = 0
	}
	p.late, p.stream = true, stream
	now := p.l.k.now()
	if p.stray == 0 || now > p.strayed+lateFor {
		p.stray = epoch
	}
	p.strayed = now
}

// oldest is the first epoch by which the place may be in the queue once it is given up. Under k.mu.
func (p *place) oldest() int32 {
	if p.stray == 0 || p.l.k.now() > p.strayed+lateFor {
		return p.settled
	}
	return max(min(p.stray, p.settled), p.epoch-mostStrays)
}

// leaveWithLock is for a place that has become a lock. It stays in the books until that is given back: word that the lock was passed on may
// still be on its way, and must not be taken for that of one that nobody has.
func (s *speaker) leaveWithLock() *holding {
	l := s.place.l
	s.place = nil
	l.endOusted()
	s.handOver(l)
	if l.terms.Fencing {
		s.k.floors.raise(l.name, l.token)
	}
	return l
}

// leaveQueue gives up the place. If the lock has just been passed on to it, or taken, it is left free, and the next is told to look: what nobody
// has believed in must not be passed on as if somebody had held it. A server's clock may have jumped, and another may still believe in it.
func (s *speaker) leaveQueue() {
	p := s.place
	if p == nil {
		return
	}
	s.place = nil
	l, k := p.l, s.k
	l.end(errNotHanded)
	k.mu.Lock()
	delete(k.places, l.owner)
	if l.state == held {
		k.mu.Unlock()
		l.endOusted()
		l.cancel()
		return
	}
	k.retire(l)
	ops := l.passOps(nil)
	for i := range ops {
		ops[i].Epoch, ops[i].Settled, ops[i].Free, ops[i].Yield = p.epoch, p.oldest(), true, 0
		ops[i].Unknown, ops[i].Stream = p.late, p.stream
	}
	until := k.now() + max(l.validity, placeLife)
	k.mu.Unlock()
	k.leave(l.name, ops, until)
}

// passOps is what gives all of a lock's keys back, to the next in the queue. Under k.mu.
func (l *holding) passOps(ops []store.Op) []store.Op {
	q := &l.queueing
	if q.note == nil {
		q.note = &contention{beside: l.k.besideOf(l.name)}
	}
	floor, queued := l.k.floors.of(l.name), l.k.queuedKeys()
	passes, remaining, alone := q.note.turns.passing(l.k.now())
	for i := range l.keys {
		if i >= queued {
			ops = append(ops, store.Op{Key: l.keys[i].name, Owner: l.owner})
			continue
		}
		ops = append(ops, store.Op{
			Key: l.keys[i].name, Owner: l.owner, Validity: l.terms.validity,
			Queue: q.note.beside.queue, Counter: q.note.beside.counters[i], Floor: floor,
			Epoch: q.epoch, Settled: q.settled, Fenced: l.terms.Fencing,
			Passes: passes, Remaining: remaining, Alone: alone, Call: l.looksWithin(),
		})
	}
	return ops
}

// looksWithin is how long one who is told to look may take: until then a lock that was left free does not mean that nobody comes.
func (l *holding) looksWithin() time.Duration {
	return min(max(mostYield, l.k.patience.trips(4)), l.validity/2)
}

// hearOfQueue takes word about a queue. Under k.mu. It gives what is to be given back: a lock that was passed on to nobody.
func (k *locker) hearOfQueue(name string, event store.Event) (back *holding) {
	switch event.Word {
	case store.Look:
		if c := k.contention[name]; c != nil && event.After > 0 {
			k.othersTurn(c)
		}
		if queue := k.lines[name]; queue != nil {
			queue.signal(true)
		}
	case store.Called: // together with many others, perhaps
		k.lookAfter(name, min(event.After, mostYield))
	case store.Awaited:
		for l := k.locks[name]; l != nil; l = l.next {
			if l.state == held && !l.queueing.aware {
				l.queueing.aware, l.queueing.note = true, k.noteContention(name)
			}
		}
	case store.PassedOn:
		return k.passedOn(name, event.Passed)
	}
	return nil
}

// lookAfter has who speaks for the line look in a while. Under k.mu.
func (k *locker) lookAfter(name string, after time.Duration) {
	switch queue := k.lines[name]; {
	case queue == nil:
	case after <= 0:
		queue.signal(true)
	default:
		k.spawnLocked(func() {
			sleepFor(k.life, after)
			k.wakeLine(name)
		})
	}
}

// passedOn takes word that the lock was passed on to a place of this process. Under k.mu.
func (k *locker) passedOn(name string, passed *store.Passed) (back *holding) {
	p := k.places[passed.Owner]
	if p == nil {
		return k.passedToNobody(name, passed)
	}
	l := p.l
	if l.state != queued {
		return nil
	}
	k.noteContention(name).turns.passed(passed, k.now()-time.Duration(k.patience.usual.Load())/2)
	if until, ok := p.trust(passed); ok && p.suffices(passed) {
		p.believe(until, passed)
	}
	if queue := k.lines[name]; queue != nil {
		queue.signal(true)
	}
	return nil
}

// trust is until when to believe that the lock was passed on. ok is false if that is not known, or too soon.
func (p *place) trust(passed *store.Passed) (until time.Duration, ok bool) {
	if passed.Epoch <= p.stale || passed.Epoch < 1 || passed.Epoch > p.epoch || p.epoch-passed.Epoch >= mostEpochs {
		return 0, false
	}
	l := p.l
	until = l.k.drift.trustUntil(p.sent[passed.Epoch%mostEpochs], l.validity, store.Forever)
	return until, until-l.k.now() > l.validity/8
}

// suffices tells whether the word is all that is needed; else another claim finds out the rest.
func (p *place) suffices(passed *store.Passed) bool {
	t := p.l.terms
	fenced := !t.Fencing || passed.Token > p.l.k.floors.of(p.l.name)
	return p.l.overtaken == 0 && passed.Keys == len(p.l.keys) && t.Replicas == 0 && !t.NoExtend && fenced && p.l.Context.Err() == nil && !p.l.k.ended
}

// believe makes the place a lock on the word of the one who had it before. Under k.mu.
func (p *place) believe(until time.Duration, passed *store.Passed) {
	l, k := p.l, p.l.k
	for i := range l.keys {
		key := &l.keys[i]
		key.standing, key.given, key.until = mine, l.validity, until
		key.lives = until + k.drift.marginOf(l.validity)
	}
	now := k.now()
	l.mayLive = now + l.validity
	l.handEnds = now + k.drift.windowOf(l.validity)
	l.token = passed.Token
	p.won()
	delete(k.refusals, l.name)
	if cancel := p.cancel; cancel != nil { // there is no need for its answer any more, unless that is about to come
		time.AfterFunc(leastGrace, func() { cancel(errNoAnswer) })
	}
	l.lastErr = nil
	l.state, l.granted = held, now
	k.oust(l)
	l.believe()
	l.due = now + min(glance, l.interval())
	if until-now < l.validity/2 {
		l.due = now
	}
	k.schedule(l)
}

// passedToNobody is for a lock that was passed on to a wait that is over: it goes to the next. Only this locker's own are given back: anybody
// may publish anything.
func (k *locker) passedToNobody(name string, passed *store.Passed) (back *holding) {
	if !strings.HasPrefix(passed.Owner, k.id) {
		return nil
	}
	for l := k.locks[name]; l != nil; l = l.next {
		if l.owner == passed.Owner {
			return nil
		}
	}
	l := &holding{k: k, name: name, owner: passed.Owner, terms: k.terms, validity: k.terms.validity, keys: make([]lockKey, k.keys())}
	l.queueing = queueing{aware: true, note: k.noteContention(name)}
	l.queueing.note.turns.passed(passed, k.now())
	for i := range l.keys {
		l.keys[i].name = keyOf(k.prefix, i, name)
	}
	return l
}

// awaitPass waits in the queue until the lock was passed on, or another claim is worth while. more is false if the wait is over.
func (s *speaker) awaitPass(ctx context.Context, back setback) (l *holding, more bool) {
	p := s.place
	if back.key == "" {
		if more = s.sleep(ctx, s.left(s.faults.next()), s.woken); more {
			l = s.passed()
		}
		return l, more
	}
	s.faults.reset()
	s.key = back.key
	s.life = 0
	free := back.holder == store.Unnamed && back.ttl <= mostYield
	if free { // and others have their turn
		s.lookAt = s.k.now() + back.ttl
	} else if back.ttl > 0 || p.watched {
		s.sawTTL(back.ttl)
	} else { // how long it lives is not known yet
		s.lookAt = s.k.now() + s.terms.validity*3/4 + jitter.Between(slackFrom, slackTo)
	}
	timer := time.NewTimer(0)
	defer timer.Stop()
	for {
		timer.Reset(min(s.lookAt, s.at, s.claimed+rejoinAfter) - s.k.now())
		select {
		case <-ctx.Done():
			return nil, false
		case <-s.k.life.Done():
			return nil, false
		case <-s.woken:
			return s.passed(), true
		case <-s.touched:
			if free || p.peer != "" { // its fellows claim at once, too
				return nil, true
			}
			if p.watched {
				if l, more, done := s.readPlace(ctx, back.holder); done {
					return l, more
				}
			}
			s.sawTouch()
		case <-timer.C:
			if free || s.k.now() >= min(s.at, s.claimed+rejoinAfter) {
				return nil, true
			}
			p.calls = true
			if l, more, done := s.readPlace(ctx, back.holder); done {
				return l, more
			}
			p.calls = false
		}
	}
}

// passed is the lock, if it has been passed on.
func (s *speaker) passed() *holding {
	p := s.place
	s.k.mu.Lock()
	won := p.l.state == held
	s.k.mu.Unlock()
	if !won {
		return nil
	}
	return s.leaveWithLock()
}

// readPlace reads the lock's keys. It is done if that, or what came meanwhile, gives the lock, or a reason to claim again; more is false if
// the wait is over. Word that the lock was passed on often comes just behind the event that has the keys read, and says all there is to know.
func (s *speaker) readPlace(ctx context.Context, met string) (l *holding, more, done bool) {
	p, sent := s.place, s.k.now()
	ops, read := p.readOps(), make(chan struct{})
	if !s.k.spawn(func() { s.k.readSoon(ops); close(read) }) {
		return nil, false, true
	}
	select {
	case <-ctx.Done():
		return nil, false, true
	case <-s.k.life.Done():
		return nil, false, true
	case <-s.woken:
		p.calls = false
		return s.passed(), true, true
	case <-read:
		if p.adopt(sent, ops) {
			return s.leaveWithLock(), true, true
		}
		return nil, true, !p.stillHeld(s, met, ops)
	}
}

// readOps asks for the keys that are passed on in one step, and for the place.
func (p *place) readOps() []store.Op {
	l := p.l
	ops := make([]store.Op, len(p.ops))
	for i := range ops {
		ops[i] = store.Op{Key: l.keys[i].name, Owner: l.owner}
	}
	l.k.mu.Lock()
	defer l.k.mu.Unlock()
	op := &ops[0]
	op.Queue, op.Epoch, op.Validity, op.Fenced = l.queueing.note.beside.queue, p.epoch, l.validity, l.terms.Fencing
	return ops
}

// readSoon reads keys, for no longer than a node may take. It outlives the wait, whose end says nothing about the connection.
func (k *locker) readSoon(ops []store.Op) {
	ctx, cancel := context.WithTimeoutCause(k.life, k.patience.now(), errNoAnswer)
	defer cancel()
	k.store.Read(ctx, ops)
}

// adopt makes the place a lock if all keys were found to be its own, and that is all that is needed. They cannot run out sooner than what they
// had left when they were read, so trust counts from before that was sent.
func (p *place) adopt(sent time.Duration, ops []store.Op) bool {
	l, k := p.l, p.l.k
	if l.terms.Fencing || l.terms.Replicas > 0 || len(ops) < len(l.keys) {
		return false
	}
	ttl := store.Forever
	for i := range ops {
		if !ops[i].Mine() {
			return false
		}
		ttl = min(ttl, ops[i].TTL)
	}
	k.mu.Lock()
	defer k.mu.Unlock()
	// One who has taken it by force here since may have been answered first.
	fresh := l.state == queued && l.overtaken == 0
	if until := k.drift.trustUntil(sent, l.validity, ttl); fresh && until-k.now() > l.validity/8 {
		for i := range ops {
			p.ops[i].Answer = ops[i].Answer
		}
		p.take(sent)
	}
	return l.state == held
}

// stillHeld tells, by what was read, whether there is nothing to do but to wait on: the lock is held by the one that was met, or by one that
// passes it on, and the place is there. Whoever was told that somebody waits has heard of it by the time that its keys are touched again, unless that was right away.
func (p *place) stillHeld(s *speaker, met string, ops []store.Op) bool {
	ttl := store.Forever
	for i := range ops {
		op := &ops[i]
		if op.Err != nil || op.Holder == "" || op.Mine() || op.Holder != met && !passesOn(op.Holder) {
			return false
		}
		ttl = min(ttl, op.TTL)
	}
	if !ops[0].Queued {
		return false
	}
	k := p.l.k
	now := k.now()
	k.mu.Lock()
	if passesOn(ops[0].Holder) || p.told != never && now-p.told > max(provenAfter, k.patience.trips(4)) {
		p.watched = false
	}
	k.mu.Unlock()
	s.life = 0
	s.sawTTL(ttl)
	return true
}

// passesOn tells whether an owner value is that of a holder that knows of the queue.
func passesOn(owner string) bool {
	rest, ok := strings.CutPrefix(owner, ownerMark)
	if !ok {
		return false
	}
	_, moment, _ := strings.Cut(rest, "/")
	return strings.HasPrefix(moment, string(queuedMark))
}

// queueless tells whether an owner value is that of a holder that does without the queue.
func queueless(owner string) bool {
	rest, _ := strings.CutPrefix(owner, ownerMark)
	_, moment, _ := strings.Cut(rest, "/")
	return strings.HasPrefix(moment, string(queuelessMark))
}
