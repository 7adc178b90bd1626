package main

// allFaults are the rows of the table, in its order.
var allFaults = []*fault{
	{Name: "nothing", Text: "nothing goes wrong", Strike: onAll(nothing, 2*validity)},

	{Name: "stalled", Text: "the holder's link stalls, both ways", Strike: onHolder(stall)},
	{Name: "requests stalled", Text: "the holder's requests stall, replies arrive", Strike: onHolder(stallUp)},
	{Name: "replies stalled", Text: "replies to the holder stall, its requests arrive", Strike: onHolder(stallDown)},
	{Name: "flapping", Text: "the holder's link stalls and heals, again and again, one way or both", Strike: inTurn(validity*3/5, stall, stallUp, stallDown)},
	{Name: "cut", Text: "the holder's connections are cut, and refused for longer than the validity", Strike: onHolder(cutOff)},
	{Name: "cuts", Text: "everybody's connections are cut, again and again", Strike: onAll(cuts, 3*validity)},
	{Name: "slow", Text: "all links are slow: 300 ms a round trip", Strike: onAll(slowed, 3*validity)},
	{Name: "waiters stalled", Text: "all waiters' links stall while the holder releases", Strike: onWaiters(stall)},
	{Name: "replies lost", Text: "a fifth of all commands, carried out or not, ends with a cut in place of its reply", Strike: onAll(lostReplies, 3*validity), Not: notEtcd},

	{Name: "frozen", Text: "the server is stopped (SIGSTOP) for longer than the validity", Strike: onHolder(frozen)},
	{Name: "restart with data", Text: "the server is killed and restarted with its data (appendfsync always)", Strike: onHolderFor(killedAndKept, validity/4, validity/2), Config: logged("always")},
	{Name: "clock ahead", Text: jumping(clockAhead), Config: ownClock, Strike: onHolder(clockAhead), Not: notEtcd},
	{Name: "clock behind", Text: jumping(clockBehind), Config: ownClock, Strike: onHolder(clockBehind), Not: notEtcd},
	{Name: "clock near", Text: jumping(clockNear), Config: ownClock, Strike: onHolder(clockNear), Not: notEtcd},
	{Name: "CLIENT KILL", Text: "the server kills connections, again and again", Strike: onAll(clientsKilled, 3*validity), Not: notEtcd},
	{Name: "CLIENT PAUSE", Text: "CLIENT PAUSE for longer than the validity", Strike: onHolder(paused), Not: notEtcd},
	{Name: "SCRIPT FLUSH", Text: "SCRIPT FLUSH, again and again", Strike: onAll(scriptsFlushed, 3*validity), Not: notEtcd},
	{Name: "tracking overflow", Text: "the server's tracking table has room for one key", Strike: onAll(tableOverflow, 3*validity), Not: notEtcd},
	{Name: "buffer limits", Text: "the server cuts off all who have subscribed to a channel, since their output buffers are overfull, again and again (the others have no channels)", Strike: onAll(overfull, 3*validity), Only: []string{oursLibrary}},
	{Name: "foreign keys", Text: "100,000 foreign keys with a time to live, and the holder crashes", Strike: crashAmongForeignKeys, Not: notEtcd},
	{Name: "slot migrated", Text: "in a cluster, the lock's slots move to another node while it is held and waited for", Kind: Cluster, Strike: migrate},

	{Name: "crash", Text: "the holder's process is killed (SIGKILL)", Strike: onHolderFor(crashed, 2*validity, 5*validity/2)},
	{Name: "stopped at work", Text: "the holder's process is stopped (SIGSTOP) past the validity, in the middle of work; it looks before it writes", Strike: onHolder(stopped)},
	{Name: "starved", Text: "eight busy threads for each core", Quiet: true, Strike: onAll(starved, 3*validity)},
	{Name: "cancelled", Text: "the caller's context is cancelled, and work takes 300 ms to unwind (valkeylock and rueidislock give the lock back at once, and say so)", Except: []string{valkeylockLibrary, "rueidislock"}, Strike: onHolderFor(cancelled, validity/2, validity)},
	{Name: "mixed fleet", Text: "a fleet of ctxlock and valkeylock; nothing goes wrong", Only: []string{oursLibrary}, Fleet: mixedFleet, Strike: onAll(nothing, 2*validity)},
	{Name: "mixed fleet cut", Text: "the same, connections are cut again and again", Only: []string{oursLibrary}, Fleet: mixedFleet, Strike: onAll(cuts, 3*validity)},

	{Name: "node stalled", Text: "one of three independent nodes stalls", Kind: Nodes, Strike: onNode(nodeFrozen)},
	{Name: "node killed", Text: "one of three independent nodes restarts without its data (ctxlock has DelayedRestart on, redsync has nothing of the kind)", Kind: Nodes, Strike: onNode(nodeKilled)},
	{Name: "node clock", Text: "the clock of one of three independent nodes jumps by an hour, and back", Kind: Nodes, Config: ownClock, Strike: onHolder(clockAhead)},
	{Name: "majority stalled", Text: "two of three independent nodes stall", Kind: Nodes, Strike: onHolder(twoFrozen)},
	{Name: "three at once", Text: "three faults at once, drawn by the seed, three times", Strike: combined, Not: notEtcd},
	{Name: "three at once again", Text: "the same with other draws", Strike: combined, Not: notEtcd},

	{Name: "stopped before writing", Text: "the holder's process is stopped past the validity between looking and writing", Excluded: true, Strike: stopBeforeWriting},
	{Name: "clock and two more", Text: "the server's clock jumps to and fro, and two other faults strike at once, drawn by the seed, three times", Config: ownClock, Excluded: true, Strike: combinedWithClock, Not: notEtcd},
	{Name: "restart empty", Text: "the server is killed and restarted (servers of Redis' kind: without their data)", Excluded: true, Strike: onHolderFor(killed, validity/4, validity/2)},
	{Name: "restart with old data", Text: "power is lost: the server restarts without the last second (appendfsync everysec)", Excluded: true, Config: logged("everysec"), Strike: losePower, Not: notEtcd},
	{Name: "FLUSHALL", Text: "FLUSHALL while the lock is held", Excluded: true, Strike: onHolderFor(flushed, validity, validity*3/2), Not: notEtcd},
	{Name: "eviction", Text: "the server is full and evicts keys (allkeys-random)", Excluded: true, Strike: onHolderFor(evicting, validity, validity*3/2), Not: notEtcd},
	{Name: "failover Sentinel", Text: "a failover to a replica that has not heard of the lock", Kind: Sentinel, Excluded: true, Strike: failOverSentinel},
	{Name: "failover Cluster", Text: "the same in a cluster", Kind: Cluster, Excluded: true, Strike: failOverCluster},
}

// notEtcd keeps etcd from what only servers of Redis' kind can suffer.
var notEtcd = []string{etcdLibrary}

// mixedFleet is the libraries of the clients. They share keys.
var mixedFleet = []string{oursLibrary, valkeylockLibrary, oursLibrary}

// nothing is the blow that does nothing.
var nothing = &blow{name: "nothing", do: func(*run, int) (func(), error) { return nil, nil }}

// crashAmongForeignKeys has the holder crash where servers take their time to notice that a key has run out.
func crashAmongForeignKeys(r *run) error {
	if _, err := r.strike(foreignKeys, everyClient); err != nil {
		return err
	}
	return onHolderFor(crashed, 2*validity, 5*validity/2)(r)
}

// stopBeforeWriting stops the holder when it has looked.
func stopBeforeWriting(r *run) error {
	holder, err := r.grip(validity / 2)
	if err != nil {
		return err
	}
	mend, err := r.strike(stoppedLate, holder)
	if err != nil {
		return err
	}
	r.pause(5*validity/2, 3*validity)
	mend()
	r.keepGripping(validity)
	return nil
}
