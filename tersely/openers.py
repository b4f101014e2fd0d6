"""English words that open a sentence with a capital and are no names."""

from __future__ import annotations

_WORDS = """
about above according accordingly across action actions additionally adding after afterwards
again agenda all almost along already also although always amid among another any anyone
anything apart approximately around as asked aside at attendees author authors back based
because before being below besides between both briefly but clearly colleagues committee
common company compared concerning conclusion consequently considering conversation customers
current currently decision decisions depending designers despite detail details different
discussion discussions due during each earlier early either else employees even eventually
every everybody everyone everything evidence examples experts few finally findings first
firstly following for former fourth from further furthermore generally given group groups
half having hence here hereafter however if importantly in including indeed inside instead
it its just key last lastly later lately least less let like likely little long looking
main mainly many maybe meanwhile meeting meetings members more moreover most mostly much
neither never nevertheless new next nobody none nonetheless nor not nothing note notes now
often on once only opinions other others otherwise out outside over overall own panel part
participants particularly people perhaps points presently previously problems proposals
question questions rather reasons recently regarding regardless remaining report respondents
results same second secondly section several shortly should similarly simply since so some
somebody someone something sometimes soon source sources speaker speakers specifically staff
still students subsequently such suggestions summary team teams text thanks then there
thereafter therefore third thirdly though through throughout thus to today together too topic
topics toward towards two two-thirds ultimately under unfortunately unless unlike until up
upon usage users using usually various very via viewers was were what whatever when whenever
where whereas wherever whether which while who whoever whole whose why with within without
witnesses workers yes yesterday yet
"""

OPENERS = frozenset(_WORDS.split())
