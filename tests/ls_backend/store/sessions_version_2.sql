BEGIN TRANSACTION;
CREATE TABLE ivos_before_prompts (
	session_id INTEGER NOT NULL, 
	object_id INTEGER NOT NULL, 
	frame_index INTEGER NOT NULL, 
	height_px INTEGER NOT NULL, 
	width_px INTEGER NOT NULL, 
	counts BLOB NOT NULL, 
	PRIMARY KEY (session_id, object_id, frame_index), 
	FOREIGN KEY(session_id) REFERENCES ivos_sessions (id) ON DELETE CASCADE
);
INSERT INTO "ivos_before_prompts" VALUES(1,1,3,64,96,X'556332346B31324E324D344C344D324E3130303030303030303030314E31303030314E3130304F3B45685632');
CREATE TABLE ivos_mask_notes (
	session_id INTEGER NOT NULL, 
	mask_id TEXT NOT NULL, 
	present BOOLEAN NOT NULL, 
	delivered_in INTEGER NOT NULL, 
	saved_in BLOB NOT NULL, 
	PRIMARY KEY (session_id, mask_id), 
	FOREIGN KEY(session_id) REFERENCES ivos_sessions (id) ON DELETE CASCADE
);
INSERT INTO "ivos_mask_notes" VALUES(1,'obj2-00003',1,7,X'');
INSERT INTO "ivos_mask_notes" VALUES(1,'obj2-00005',1,7,X'');
INSERT INTO "ivos_mask_notes" VALUES(1,'obj1-00003',1,8,X'2CC55C32E31899CD8813843131347B2E00000005');
INSERT INTO "ivos_mask_notes" VALUES(1,'obj1-00005',1,8,X'A1F42D39AA19C2D13F641F7FFA9C6B7E00000005');
INSERT INTO "ivos_mask_notes" VALUES(2,'obj1-00002',1,0,X'B144F627390AA9F0B54A3A907F8BCE3200000001');
INSERT INTO "ivos_mask_notes" VALUES(2,'obj1-00000',1,1,X'BB96C58C460326DBC6348FAB68AFA3DE00000001');
INSERT INTO "ivos_mask_notes" VALUES(2,'obj2-00002',1,1,X'');
INSERT INTO "ivos_mask_notes" VALUES(2,'obj2-00000',1,1,X'');
CREATE TABLE ivos_masks (
	session_id INTEGER NOT NULL, 
	object_id INTEGER NOT NULL, 
	frame_index INTEGER NOT NULL, 
	height_px INTEGER NOT NULL, 
	width_px INTEGER NOT NULL, 
	own BLOB NOT NULL, 
	shown BLOB, 
	score DOUBLE NOT NULL, 
	prompted BOOLEAN NOT NULL, 
	soft BLOB, 
	uncertainty DOUBLE, 
	agreement DOUBLE, 
	PRIMARY KEY (session_id, object_id, frame_index), 
	FOREIGN KEY(session_id) REFERENCES ivos_sessions (id) ON DELETE CASCADE
);
INSERT INTO "ivos_masks" VALUES(1,2,5,64,96,X'686031376831324E334D324F314F314F314E324F3030314E324F3030304F3031303030314F314D334E3946334D545533',NULL,0.830606635692833,1,X'7801ED903B0EC0200C4349F814C427DCFFB485223A3B5B559121D3B365DB9873DF5A80489187F8AA921CA8E058A5F72E9121819BF0BCEC914CB4713D1F74FE0D2A4C65A51FDF437DDF026221DEEC8132127F5A2E016A3F049C5A2B014BF350E42D1A46E17AD0BF2E700329410579',0.0711284950375557,NULL);
INSERT INTO "ivos_masks" VALUES(1,1,3,64,96,X'556332346B31324E324D344C344D324E3130303030303030303030314E31303030314E3130304F3B45685632',NULL,8.51326429191867628532e-01,1,X'7801ED94D10EC3200845C1D964B6B1F8FF5F3B10D66AD250F6B8A4F7A5518E3778ABA6F4ABB02FC05B992F802CB8A519505F00E83C7F5D199FD0FC5D988B5F5EDB427CF83981BFCA07732979FE876EFF2F6A8D684DC3963D1EB7BD89D6E194383C2E6C2FDA627C363CEA5FD43DDC8FECB6ABC6FA39FAA7180F58BB3D2DC13C2113517DF35D3DE5E4C910CA8B71C232A3EF835E5FAE4EC58BC1C35F84324C593E1FAA05085D',8.81018042564392089843e-02,NULL);
INSERT INTO "ivos_masks" VALUES(1,1,5,64,96,X'505733346B31324E374A314E324F304F314F314F31303030314F30314F314F324E314F3030314E3347556331',NULL,8.52025336514494746609e-01,0,X'7801ED92C10E8030084361D9CC646EF0FF5F2B38E3B9C6781BE7475B1A88D6AC067E6A8099DF28F3A10D5F48A59B59450D5CDC71D38A39F01E748C600E0FAF095AE0481F33B040D4268EE621B9F902C521CA573F661BC85316E9AA033B778AFA4380D7A22116F7AD81136A23047B',6.67367950081825256347e-02,NULL);
INSERT INTO "ivos_masks" VALUES(1,2,3,64,96,X'695432346A31354C334D334E314E334E30304E324F314F314E334D324E3230304F3130314F30314F30324A564E32526532',X'556332346B31324E324D344C344D324E3130303030303030303030314E31303030314E3130304F3B45685632',8.33486402351121480336e-01,0,X'7801ED904B12C0200843C14FBF22DCFFB4555BF7E94C379D211B5D3C020991EBE70D70D38B0851B4CAB6A023516D4833B483CF1B373BA00D5C1F7BAD185F3AAF7B48D83D943B2F90F708C82DAFC2EDB491D5ACE0F6442C12A02A2714D2FCF9EB0D7CDCC005B1760367',9.86067354679107666015e-02,NULL);
INSERT INTO "ivos_masks" VALUES(2,1,0,64,96,X'585032346B31334D324E3130314F30303030303030304F3130314D6C5733',NULL,5.10672008988967363052e-01,1,X'7801BD90DB0EC320088645DBC5C4E1FB3FEE446B279410BCD87A530FDF7FC018FFFC9D39E7D39FF9C25A2B26AFE0286F442C6E3E91FD867FCCC4176F9D18536E750E3FDF14EEF2C21500C489B96DF80E4FF84FF8CBD5E7DF29AA712FAC1907D403B678B8ECFDF32E49A39C55EBAE3F55F4B7052B39D616FFA4CD00157F34226ABE4B578410B89257E2776DD7784B2079C205BF76527137DFCDB5843903B7FFE2B2D2E0393D469D1A7EA7F3AB42E3D9BB7760BACB89F5FE8B3FB7870F48A10AD9',1.88110932707786560058e-01,NULL);
INSERT INTO "ivos_masks" VALUES(2,1,2,64,96,X'545C3235313262314E5E4E3262314E5E4E3262314E5E4E3262314E5E4E3262314E5E4E3262314E5E4E3262314E5E4E3262314E5E4E3262314E5E4E3262314E5E4E3262314E5E4E3262314E5E4E3262314E5E4E325E6932',NULL,1.0,1,NULL,NULL,NULL);
INSERT INTO "ivos_masks" VALUES(2,2,0,64,96,X'6C5332346831344F314F314F314F314F314E324F314C344F31445D4F5A4F643064305E4F5C4F62306330405C4F603064303E4F3130303030314F3030303030303030303030304F3130304D334F3130304F3130304F313030314F305B4F5C4F46304B64303E5F4F44304C62303F5E4F45314B62303F5E4F45304C63303E5D4F464F4D64303D5C4F47304C64303E5A4F48304B663052314F314F31303030303030303030303030303030303030303030303030303030303030314F30303030',NULL,9.11664999906300899112e-01,1,X'7801CD93D90E84200C45299B28C1FAFF5F3B205B2B8CD1874986C4B490D3CB2DA010AF06BCA2FF038662FA9577A855CF7A88781ACF602132FD189FF2C36E59F4B4D0F4C916244D4C46B4D38505A9949417A8F553201B10D102E8CD7B1F3F671BC192822B3CE2C0D59F31A5C8B03601B91A631657B954964743581285A3111CF1836175026B951B624558043B51BEF323B641B82C30DD3E71BFE581F8C19D36D32D904CEFDD0E1A80D0A7846A2904A2884AD0EE1B9493F32148227F1CBBD2A47CC65F6E8B5DF384FF7E59B10DCE473B7221BBF73E6B36F0031E347DA69C17909F7C558B11E5EDF9D0B3C8554EDC9C3FBDD8B209B6BF2B2D5CFDF8427D0B1FAEED2175',0.0703376829624176,NULL);
INSERT INTO "ivos_masks" VALUES(2,2,2,64,96,X'6667313A663130314F30304F314F314F314E324F314F314F314F314F31303030303030303030304F31303030304F314F315B4F5F4F4A6230355F4F4B613034414B3F33444B3D354845393C653030303030314F3030314F314F324E314F30303030303030303030303030304F3130304F314F3130303030303030303030303030303030303030303030303030303030314F303030304F31303030303030',NULL,8.49595758223091190863e-01,0,X'7801D592D96285200C441D64912DF0FF5FDB804B1B5C6EED5BF3A0104F2643649A5E055ED1FF07C69F0EF6B6E8B9CBA0A666403D4C70104324F26696054240E823568EEC3467A1AD0F8B31B3725ED61F3BA8D2F8E2B451DA476AEB9253CE072116B0B621DC803852E7B9826E79032456AC91DB14EABD5A0B22217B6CA01474A05AD28EF66EACB021E2AC2D0735C75C8972A9A2E48EE70ACFE225E5C34D6FB1F1572FDBCCE7DFF2C03AA29C57EBDBF34AB8E7A0968EE475B07BD189DF4E0EE3D7732639A2133FB57B04389E668F679EAFA4E58821ECB2F4C1BF76A5345CDADEED57E907131CDBA698E4D40FFCC46FF7F21B185683BE4AC3F7712B781BF8BA3C87E0972B5AE63EF3B29FE46F86F8A344F05AFE1BC6A4194E7C0121F222E7',9.75483804941177368164e-02,NULL);
CREATE TABLE ivos_objects (
	session_id INTEGER NOT NULL, 
	object_id INTEGER NOT NULL, 
	label TEXT NOT NULL, 
	state TEXT, 
	PRIMARY KEY (session_id, object_id), 
	FOREIGN KEY(session_id) REFERENCES ivos_sessions (id) ON DELETE CASCADE
);
INSERT INTO "ivos_objects" VALUES(1,2,'obj2','{"round_index": 1, "prompts": [{"kind": "point", "frame_index": 5, "xy_px": [35.511713933415535, 28.152897657213312], "positive": true}], "stale": "", "interaction_frames": "5"}');
INSERT INTO "ivos_objects" VALUES(1,1,'obj1','{"round_index": 6, "prompts": [{"kind": "point", "frame_index": 0, "xy_px": [35.511713933415535, 35.847102342786684], "positive": true}, {"kind": "point", "frame_index": 0, "xy_px": [57.64734895191122, 57.627620221948206], "positive": false}, {"kind": "box", "frame_index": 0, "box_xyxy_px": [26.87053020961775, 25.54870530209617, 48.059186189889026, 47.3292231812577]}, {"kind": "point", "frame_index": 3, "xy_px": [4.853267570900123, 6.392108508014797], "positive": false}, {"kind": "point", "frame_index": 3, "xy_px": [48.05918618988903, 39.65474722564735], "positive": true}, {"kind": "point", "frame_index": 3, "xy_px": [53.74106041923552, 35.15659679408138], "positive": true}, {"kind": "point", "frame_index": 3, "xy_px": [51.847102342786684, 44.74475955610358], "positive": true}], "stale": "", "interaction_frames": "3"}');
INSERT INTO "ivos_objects" VALUES(2,1,'obj1','{"round_index": 1, "prompts": [{"kind": "box", "frame_index": 0, "box_xyxy_px": [26.87053020961775, 25.54870530209617, 48.059186189889026, 47.3292231812577]}, {"kind": "mask", "frame_index": 0, "size": [64, 96], "counts": "Tl1512b1N^N2b1N^N2b1N^N2b1N^N2b1N^N2b1N^N2b1N^N2b1N^N2b1N^N2b1N^N2b1N^N2b1N^N2b1N^N2^Y3"}, {"kind": "point", "frame_index": 0, "xy_px": [57.64734895191122, 57.627620221948206], "positive": false}, {"kind": "mask", "frame_index": 2, "size": [64, 96], "counts": "T\\2512b1N^N2b1N^N2b1N^N2b1N^N2b1N^N2b1N^N2b1N^N2b1N^N2b1N^N2b1N^N2b1N^N2b1N^N2b1N^N2^i2"}], "stale": "", "interaction_frames": "0,2"}');
INSERT INTO "ivos_objects" VALUES(2,2,'obj2','{"round_index": 1, "prompts": [{"kind": "scribble", "frame_index": 0, "path_xy_px": [[57.55008, 38.44992], [64.66579200000001, 38.44992], [71.9064, 38.44992], [79.14691199999999, 38.44992], [86.38752, 38.44992]], "width_px": 1.8725617685305593, "positive": true}, {"kind": "scribble", "frame_index": 0, "path_xy_px": [[57.55008, 51.18336], [58.579967999999994, 51.18336], [59.60985600000001, 51.18336], [60.639744, 51.18336], [61.669728, 51.18336], [62.699616000000006, 51.18336], [63.729504000000006, 51.18336], [64.75939199999999, 51.18336], [65.789376, 51.18336], [66.81926399999999, 51.18336], [67.84915199999999, 51.18336], [68.87904, 51.18336], [69.90892799999999, 51.18336], [70.938912, 51.18336]], "width_px": 1.8725617685305593, "positive": true}, {"kind": "scribble", "frame_index": 0, "path_xy_px": [[72.998688, 51.18336], [74.028576, 51.18336], [75.05856000000001, 51.18336], [76.088448, 51.18336], [77.118336, 51.18336], [78.148224, 51.18336], [79.178112, 51.18336], [80.20809600000001, 51.18336], [81.237984, 51.18336], [82.267872, 51.18336], [83.29776000000001, 51.18336], [84.327744, 51.18336], [85.357632, 51.18336], [86.38752, 51.18336]], "width_px": 1.8725617685305593, "positive": true}, {"kind": "scribble", "frame_index": 0, "path_xy_px": [[71.9064, 44.81664], [71.9064, 47.9376], [71.9064, 51.18336], [71.9064, 54.429120000000005], [71.9064, 57.55008]], "width_px": 1.248374512353706, "positive": false}], "stale": "", "interaction_frames": "0"}');
CREATE TABLE ivos_prompts (
	session_id INTEGER NOT NULL, 
	position INTEGER NOT NULL, 
	region_id TEXT NOT NULL, 
	label TEXT NOT NULL, 
	kind TEXT NOT NULL, 
	raw TEXT NOT NULL, 
	PRIMARY KEY (session_id, position), 
	FOREIGN KEY(session_id) REFERENCES ivos_sessions (id) ON DELETE CASCADE
);
INSERT INTO "ivos_prompts" VALUES(1,0,'MBgOd7rUMc','obj1','point','{"from_name": "pos", "id": "MBgOd7rUMc", "image_rotation": 0, "item_index": 0, "meta": {"prompt": {"pos": true}}, "origin": "manual", "original_height": 64, "original_width": 96, "to_name": "video", "type": "keypointlabels", "value": {"keypointlabels": ["obj1"], "width": 0.26007802340702213, "x": 36.99136868064118, "y": 56.011097410604194}}');
INSERT INTO "ivos_prompts" VALUES(1,1,'Y-r99Pndut','obj1','point','{"from_name": "pos", "id": "Y-r99Pndut", "image_rotation": 0, "item_index": 0, "meta": {"prompt": {"pos": false}}, "origin": "manual", "original_height": 64, "original_width": 96, "to_name": "video", "type": "keypointlabels", "value": {"keypointlabels": ["obj1"], "width": 0.26007802340702213, "x": 60.04932182490752, "y": 90.04315659679408}}');
INSERT INTO "ivos_prompts" VALUES(1,2,'2xI8841cRY','obj1','point','{"from_name": "neg", "id": "2xI8841cRY", "image_rotation": 0, "item_index": 3, "meta": {"prompt": {"pos": false}}, "origin": "manual", "original_height": 64, "original_width": 96, "to_name": "video", "type": "keypointlabels", "value": {"keypointlabels": ["obj1"], "width": 0.2466091245376079, "x": 5.055487053020962, "y": 9.98766954377312}}');
INSERT INTO "ivos_prompts" VALUES(1,3,'CwPX7EPCqU','obj1','point','{"from_name": "pos", "id": "CwPX7EPCqU", "image_rotation": 0, "item_index": 3, "meta": {"prompt": {"pos": true}}, "origin": "manual", "original_height": 64, "original_width": 96, "to_name": "video", "type": "keypointlabels", "value": {"keypointlabels": ["obj1"], "width": 0.2466091245376079, "x": 50.06165228113441, "y": 61.96054254007398}}');
INSERT INTO "ivos_prompts" VALUES(1,4,'20PUzhc7Ei','obj1','point','{"from_name": "pos", "id": "20PUzhc7Ei", "image_rotation": 0, "is_positive": true, "item_index": 3, "origin": "manual", "original_height": 64, "original_width": 96, "to_name": "video", "type": "keypointlabels", "value": {"keypointlabels": ["obj1"], "labels": ["obj1"], "width": 0.2466091245376079, "x": 55.980271270036994, "y": 54.932182490752155}}');
INSERT INTO "ivos_prompts" VALUES(1,5,'whK7Zh7gtj','obj1','point','{"from_name": "pos", "id": "whK7Zh7gtj", "image_rotation": 0, "is_positive": true, "item_index": 3, "origin": "manual", "original_height": 64, "original_width": 96, "to_name": "video", "type": "keypointlabels", "value": {"keypointlabels": ["obj1"], "labels": ["obj1"], "width": 0.2466091245376079, "x": 54.00739827373613, "y": 69.91368680641185}}');
INSERT INTO "ivos_prompts" VALUES(1,6,'HDJ8Sxz-BF','obj1','box','{"from_name": "box", "id": "HDJ8Sxz-BF", "image_rotation": 0, "item_index": 0, "origin": "manual", "original_height": 64, "original_width": 96, "to_name": "video", "type": "rectanglelabels", "value": {"height": 34.0320591861899, "rectanglelabels": ["obj1"], "rotation": 0, "width": 22.071516646115914, "x": 27.990135635018493, "y": 39.91985203452526}}');
INSERT INTO "ivos_prompts" VALUES(1,7,'pHWqHP0EcU','obj2','point','{"from_name": "pos", "id": "pHWqHP0EcU", "image_rotation": 0, "is_positive": true, "item_index": 5, "origin": "manual", "original_height": 64, "original_width": 96, "to_name": "video", "type": "keypointlabels", "value": {"keypointlabels": ["obj2"], "labels": ["obj2"], "width": 0.26007802340702213, "x": 36.99136868064118, "y": 43.9889025893958}}');
INSERT INTO "ivos_prompts" VALUES(2,0,'JHEXUL8Mjv','obj1','point','{"from_name": "pos", "id": "JHEXUL8Mjv", "image_rotation": 0, "is_positive": false, "item_index": 0, "origin": "manual", "original_height": 64, "original_width": 96, "to_name": "video", "type": "keypointlabels", "value": {"keypointlabels": ["obj1"], "labels": ["obj1"], "width": 0.26007802340702213, "x": 60.04932182490752, "y": 90.04315659679408}}');
INSERT INTO "ivos_prompts" VALUES(2,1,'weJOl47I1o','obj1','box','{"from_name": "box", "id": "weJOl47I1o", "image_rotation": 0, "item_index": 0, "meta": {"prompt": {"pos": true}}, "origin": "manual", "original_height": 64, "original_width": 96, "to_name": "video", "type": "rectanglelabels", "value": {"height": 34.0320591861899, "rectanglelabels": ["obj1"], "rotation": 0, "width": 22.071516646115914, "x": 27.990135635018493, "y": 39.91985203452526}}');
INSERT INTO "ivos_prompts" VALUES(2,2,'obj1-00000/by-hand','obj1','mask','{"id": "obj1-00000/by-hand", "type": "ivos-mask", "item_index": 0, "value": {"label": "obj1", "mask": {"height_px": 64, "width_px": 96, "counts": [1924, 5, 1, 7, 51, 5, 1, 7, 51, 5, 1, 7, 51, 5, 1, 7, 51, 5, 1, 7, 51, 5, 1, 7, 51, 5, 1, 7, 51, 5, 1, 7, 51, 5, 1, 7, 51, 5, 1, 7, 51, 5, 1, 7, 51, 5, 1, 7, 51, 5, 1, 7, 51, 5, 1, 7, 3375], "version": "5b05d85ba46d3898", "settles": ["weJOl47I1o"]}, "painted": []}}');
INSERT INTO "ivos_prompts" VALUES(2,3,'obj1-00002/by-hand','obj1','mask','{"id": "obj1-00002/by-hand", "type": "ivos-mask", "item_index": 2, "value": {"label": "obj1", "mask": {"height_px": 64, "width_px": 96, "counts": [2436, 5, 1, 7, 51, 5, 1, 7, 51, 5, 1, 7, 51, 5, 1, 7, 51, 5, 1, 7, 51, 5, 1, 7, 51, 5, 1, 7, 51, 5, 1, 7, 51, 5, 1, 7, 51, 5, 1, 7, 51, 5, 1, 7, 51, 5, 1, 7, 51, 5, 1, 7, 51, 5, 1, 7, 2863], "version": "80d127ca1b8c6502", "settles": []}, "painted": []}}');
INSERT INTO "ivos_prompts" VALUES(2,4,'zabVfUDSsn/hnBCC3fIBm.0','obj2','scribble','{"id": "zabVfUDSsn/hnBCC3fIBm.0", "type": "ivos-scribble", "item_index": 0, "value": {"label": "obj2", "stands_in": "zabVfUDSsn", "path": [59.948, 60.078, 67.3602, 60.078, 74.9025, 60.078, 82.4447, 60.078, 89.987, 60.078], "width_pct": 1.950585175552666, "positive": true}}');
INSERT INTO "ivos_prompts" VALUES(2,5,'zabVfUDSsn/emiko_RQqz.0','obj2','scribble','{"id": "zabVfUDSsn/emiko_RQqz.0", "type": "ivos-scribble", "item_index": 0, "value": {"label": "obj2", "stands_in": "zabVfUDSsn", "path": [59.948, 79.974, 61.0208, 79.974, 62.0936, 79.974, 63.1664, 79.974, 64.2393, 79.974, 65.3121, 79.974, 66.3849, 79.974, 67.4577, 79.974, 68.5306, 79.974, 69.6034, 79.974, 70.6762, 79.974, 71.749, 79.974, 72.8218, 79.974, 73.8947, 79.974], "width_pct": 1.950585175552666, "positive": true}}');
INSERT INTO "ivos_prompts" VALUES(2,6,'zabVfUDSsn/emiko_RQqz.1','obj2','scribble','{"id": "zabVfUDSsn/emiko_RQqz.1", "type": "ivos-scribble", "item_index": 0, "value": {"label": "obj2", "stands_in": "zabVfUDSsn", "path": [76.0403, 79.974, 77.1131, 79.974, 78.186, 79.974, 79.2588, 79.974, 80.3316, 79.974, 81.4044, 79.974, 82.4772, 79.974, 83.5501, 79.974, 84.6229, 79.974, 85.6957, 79.974, 86.7685, 79.974, 87.8414, 79.974, 88.9142, 79.974, 89.987, 79.974], "width_pct": 1.950585175552666, "positive": true}}');
INSERT INTO "ivos_prompts" VALUES(2,7,'zabVfUDSsn/6rzq8taicO.0','obj2','scribble','{"id": "zabVfUDSsn/6rzq8taicO.0", "type": "ivos-scribble", "item_index": 0, "value": {"label": "obj2", "stands_in": "zabVfUDSsn", "path": [74.9025, 70.026, 74.9025, 74.9025, 74.9025, 79.974, 74.9025, 85.0455, 74.9025, 89.922], "width_pct": 1.3003901170351104, "positive": false}}');
CREATE TABLE ivos_rounds (
	session_id INTEGER NOT NULL, 
	number INTEGER NOT NULL, 
	started_at_s DOUBLE NOT NULL, 
	object_ids TEXT NOT NULL, 
	prompt_ids TEXT NOT NULL, 
	n_masks INTEGER NOT NULL, 
	finished BOOLEAN NOT NULL, 
	PRIMARY KEY (session_id, number), 
	FOREIGN KEY(session_id) REFERENCES ivos_sessions (id) ON DELETE CASCADE
);
INSERT INTO "ivos_rounds" VALUES(1,1,1.79608188501892614367e+09,'[1]','["HDJ8Sxz-BF"]',6,0);
INSERT INTO "ivos_rounds" VALUES(1,2,1.79608188595889639851e+09,'[1]','["MBgOd7rUMc", "HDJ8Sxz-BF"]',6,0);
INSERT INTO "ivos_rounds" VALUES(1,3,1.79608188687927675247e+09,'[1]','["MBgOd7rUMc", "Y-r99Pndut", "HDJ8Sxz-BF"]',6,0);
INSERT INTO "ivos_rounds" VALUES(1,4,1.79608188764259696012e+09,'[1]','["MBgOd7rUMc", "Y-r99Pndut", "2xI8841cRY", "HDJ8Sxz-BF"]',5,0);
INSERT INTO "ivos_rounds" VALUES(1,5,1.79608188816370058062e+09,'[1]','["MBgOd7rUMc", "Y-r99Pndut", "2xI8841cRY", "SzVZgZZNC5", "HDJ8Sxz-BF"]',5,0);
INSERT INTO "ivos_rounds" VALUES(1,6,1.79608188882225251192e+09,'[2]','["pHWqHP0EcU"]',6,0);
INSERT INTO "ivos_rounds" VALUES(1,7,1.79608188984039425853e+09,'[1]','["MBgOd7rUMc", "Y-r99Pndut", "2xI8841cRY", "CwPX7EPCqU", "HDJ8Sxz-BF"]',11,0);
INSERT INTO "ivos_rounds" VALUES(1,8,1.79608189056840634352e+09,'[1]','["MBgOd7rUMc", "Y-r99Pndut", "2xI8841cRY", "CwPX7EPCqU", "20PUzhc7Ei", "whK7Zh7gtj", "HDJ8Sxz-BF"]',5,1);
INSERT INTO "ivos_rounds" VALUES(2,1,1.79608189131801795953e+09,'[1, 2]','["weJOl47I1o", "obj1-00000/by-hand", "obj1-00002/by-hand", "JHEXUL8Mjv", "zabVfUDSsn/hnBCC3fIBm.0", "zabVfUDSsn/emiko_RQqz.0", "zabVfUDSsn/emiko_RQqz.1", "zabVfUDSsn/6rzq8taicO.0"]',12,1);
CREATE TABLE ivos_schema (
	version INTEGER NOT NULL, 
	PRIMARY KEY (version)
);
INSERT INTO "ivos_schema" VALUES(2);
CREATE TABLE ivos_sessions (
	id INTEGER NOT NULL, 
	project TEXT NOT NULL, 
	task TEXT NOT NULL, 
	urls_digest TEXT NOT NULL, 
	model_version TEXT NOT NULL, 
	opened_at_s DOUBLE NOT NULL, 
	used_at_s DOUBLE NOT NULL, 
	newest_round INTEGER NOT NULL, 
	size_bytes BIGINT NOT NULL, 
	editor TEXT NOT NULL, 
	PRIMARY KEY (id)
);
INSERT INTO "ivos_sessions" VALUES(1,'1','1','70e869687a71ab17153600582bb21e54','i_pt+classical',1.79608188501338315009e+09,1.79608189130521965024e+09,8,9894,'{"echoed": {"obj1": ["20PUzhc7Ei", "2xI8841cRY", "CwPX7EPCqU", "HDJ8Sxz-BF", "MBgOd7rUMc", "Y-r99Pndut", "whK7Zh7gtj"], "obj2": ["pHWqHP0EcU"]}, "answered_in": {"HDJ8Sxz-BF": 1, "MBgOd7rUMc": 2, "Y-r99Pndut": 3, "2xI8841cRY": 4, "SzVZgZZNC5": 5, "pHWqHP0EcU": 6, "CwPX7EPCqU": 7, "whK7Zh7gtj": 8, "20PUzhc7Ei": 8}, "answered_at_s": 1796081891.304}');
INSERT INTO "ivos_sessions" VALUES(2,'1','2','ae7742e8f5ecd99137a01d3a2dc60191','i_pt+classical',1.79608189131047964095e+09,1.79608189294324970246e+09,1,11627,'{"echoed": {"obj1": ["JHEXUL8Mjv", "weJOl47I1o"], "obj2": []}, "answered_in": {"JHEXUL8Mjv": 1, "weJOl47I1o": 1}, "answered_at_s": 1796081892.939}');
CREATE INDEX ivos_sessions_by_task ON ivos_sessions (project, task);
CREATE INDEX ivos_sessions_by_use ON ivos_sessions (used_at_s);
COMMIT;
