package ctxlock

// Lockers with different majorities do not exclude each other by keys alone: one has its majority on
// keys that the other does without. Between ctxlock's own, the owner value tells the majority, and
// that is an error. Beside valkeylock, whose values tell nothing, a lock is refused where valkeylock
// itself would refuse it. It claims its keys in their order and gives up at the first that another
// holds before it has N: so it refuses if any of the keys from 0 to N-1 is held.
//
// But a valkeylock that is just claiming, with the same majority, has one of these keys, too, and
// fails at the next, which is ours. If both gave up each time, neither would get the lock. So a claim
// that has its majority keeps it for a moment, and claims that key again: if the other goes, it must
// not be left free, or those whose only key it is would get in.

// clashes tells whether an owner value is that of a locker with another majority.
func (k *locker) clashes(owner string) bool {
	majority := majorityOf(owner)
	return majority != 0 && majority != k.majority
}

// clash is the error of that.
func (k *locker) clash(name, stored string) *MajorityError {
	owner, _ := splitOwner(stored)
	return &MajorityError{Name: name, Ours: k.majority, Theirs: majorityOf(owner), Holder: owner}
}

// refuseClash ends a claim that has met another majority; if the answer came so late that it is held
// by then, it is lost. Unlocks k.mu.
func (k *locker) refuseClash(l *holding, clash *MajorityError) {
	if l.state == claiming {
		l.giveUp()
		k.mu.Unlock()
		return
	}
	l.lastErr = clash
	cause := l.lose()
	cause.Reason = Taken
	k.mu.Unlock()
	l.lost(cause)
	ops, until := l.lostOps()
	k.leave(l.name, ops, until)
}

// barred tells whether there is a key without which others would not be kept out. Under k.mu.
func (l *holding) barred() bool { return len(l.bars()) > 0 }

// bars are the keys that valkeylock would not do without, and that it has, or has just given back: one
// that is free may be taken by those who need no other. Under k.mu.
func (l *holding) bars() (indexes []int) {
	if l.k.names != nil { // it knows of no such nodes
		return nil
	}
	for i := range l.k.majority {
		standing := l.keys[i].standing
		if standing == gone || standing == taken && ofPeer(l.ops[i].Holder) {
			indexes = append(indexes, i)
		}
	}
	return indexes
}
