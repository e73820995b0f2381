from testbed.kernel.uml.boot import main

raise SystemExit(main())
