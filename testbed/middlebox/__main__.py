from testbed.middlebox.engine import main

main()
